#!/usr/bin/env python3
"""Checks rendered user data against cloud-init's own schema.

    user_data.py SCHEMA < user-data
"""

import json
import sys

import jsonschema
import yaml


def main():
    text = sys.stdin.read()
    if not text.startswith("#cloud-config\n"):
        sys.exit("user_data: its first line is not #cloud-config, so that cloud-init would not read it")
    with open(sys.argv[1], encoding="utf-8") as file:
        validator = jsonschema.Draft4Validator(json.load(file))
    config = yaml.safe_load(text)
    found = sorted(validator.iter_errors(config), key=lambda error: list(error.path))
    for error in found:
        print(f"user_data: {'.'.join(map(str, error.path))}: {error.message}", file=sys.stderr)
    lines = config["write_files"][0]["content"].splitlines()
    bad = [line for line in lines if "=" not in line or " " in line]
    for line in bad:
        print(f"user_data: `{line}` is no setting", file=sys.stderr)
    sys.exit(1 if found or bad else 0)


if __name__ == "__main__":
    main()
