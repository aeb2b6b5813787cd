"""The shipped risk profiles, one YAML file each; load one with openrlhf_rad.profile.load_profile(name)."""
