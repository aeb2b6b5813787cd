"""``python -m openrlhf_rad``: OpenRLHF's training command, one word changed."""

import sys

from openrlhf_rad.plugin.launch import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
