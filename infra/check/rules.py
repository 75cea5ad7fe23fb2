#!/usr/bin/env python3
"""Rules of infra/ that neither Terraform, Packer nor the scanner knows. Prints each breach and fails if there is one.

    rules.py INFRA [REPORT]     REPORT is checkov's, as JSON: then skips that nothing needs are found, too
"""

import json
import pathlib
import re
import sys

BLOCK = re.compile(r'^(?P<kind>variable|output|resource) "(?P<first>[\w-]+)"(?: "(?P<second>[\w-]+)")? \{\n(?P<body>.*?)^\}',
                   re.M | re.S)
# Packer's `fileset` looks from the recipe's folder, whatever folder `packer` was started in.
RELATIVE_FILES = re.compile(r"\bfileset\((?!abspath\()")
SKIP = re.compile(r"checkov:skip=(?P<id>[A-Z0-9_]+)(?P<reason>.*)")
# A reason is a sentence, not a word.
LEAST_REASON = 20
OPEN = ("0.0.0.0/0", "::/0")


def block_breaches(kind, name, body):
    """What is wrong with one block."""
    if kind == "variable":
        for field in ("description", "type"):
            if not re.search(rf"^  {field}\s+=", body, re.M):
                yield f"the variable `{name}` has no {field}"
        if re.search(r'description\s+=\s+"[^"]{0,9}"', body):
            yield f"the description of `{name}` says nothing"
        for message in re.findall(r'error_message\s+=\s+"(.*)"', body):
            if not message.endswith("."):
                yield f"a message of the variable `{name}` is no sentence"
        if "condition" in body and "error_message" not in body:
            yield f"a condition of the variable `{name}` has no message"
    if kind == "output" and not re.search(r"^  description\s+=", body, re.M):
        yield f"the output `{name}` has no description"


def resource_breaches(resource, name, body):
    """What is wrong with one resource."""
    if resource.endswith("_ingress_rule") and any(f'"{everybody}"' in body for everybody in OPEN):
        yield f"{resource}.{name} lets everybody in"
    if resource in ("aws_security_group", "aws_default_security_group") and re.search(r"^  (ingress|egress)\b", body, re.M):
        yield f"{resource}.{name} has rules inside: use one resource for each rule"
    if resource == "aws_security_group_rule":
        yield f"{resource}.{name}: use aws_vpc_security_group_ingress_rule or _egress_rule"
    if re.search(r"^\s+key_name\s+=", body, re.M):
        yield f"{resource}.{name} has a key pair: people come in through Session Manager"
    if re.search(r"^\s+associate_public_ip_address\s+=\s+true", body, re.M):
        yield f"{resource}.{name} has a public address"


def breaches(root, skipped):
    """All breaches below `root`; `skipped` are the checks that were skipped in a run, if there was one."""
    for file in sorted(root.rglob("*.tf")):
        if ".terraform" in file.parts:
            continue
        text = file.read_text(encoding="utf-8")
        where = file.relative_to(root)
        for block in BLOCK.finditer(text):
            kind, first, second = block["kind"], block["first"], block["second"]
            found = resource_breaches(first, second, block["body"]) if kind == "resource" else \
                block_breaches(kind, first, block["body"])
            yield from (f"{where}: {breach}" for breach in found)
        for skip in SKIP.finditer(text):
            if len(skip["reason"].lstrip(":").strip()) < LEAST_REASON and "as above" not in skip["reason"] \
                    and "follows the password above" not in skip["reason"]:
                yield f"{where}: {skip['id']} is skipped without a reason"
            if skipped is not None and (f"/{where}", skip["id"]) not in skipped:
                yield f"{where}: {skip['id']} need not be skipped"
    for file in sorted(root.rglob("*.pkr.hcl")):
        if RELATIVE_FILES.search(file.read_text(encoding="utf-8")):
            yield f"{file.relative_to(root)}: fileset looks from the recipe's folder: give it an absolute path (abspath)"
    for module in sorted((root / "modules").iterdir()):
        for needed in ("main.tf", "variables.tf", "outputs.tf", "versions.tf"):
            if not (module / needed).is_file():
                yield f"modules/{module.name}: has no {needed}"


def main():
    root = pathlib.Path(sys.argv[1]).resolve()
    skipped = None
    if len(sys.argv) > 2:
        report = json.loads(pathlib.Path(sys.argv[2]).read_text(encoding="utf-8"))
        skipped = {(check["file_path"], check["check_id"]) for check in report["results"]["skipped_checks"]}
    found = list(breaches(root, skipped))
    for breach in found:
        print(f"rules: {breach}", file=sys.stderr)
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
