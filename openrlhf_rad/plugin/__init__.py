"""The part of openrlhf_rad that touches OpenRLHF, Ray, DeepSpeed and vLLM; nothing else imports them."""
