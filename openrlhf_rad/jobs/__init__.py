"""Assets of the jobs that ship with the package: models, prompts, rewards and costs."""
