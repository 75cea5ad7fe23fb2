#!/usr/bin/env python3
"""Keeps of a provider's schema what infra/ uses, for the stand-in of provider.py.

    terraform providers schema -json > all.json          # with the real provider
    infra/check/trim_schema.py all.json VERSION          # writes infra/check/schema/aws-VERSION.json.gz

Run it again when a module uses a kind of resource that the schema does not have: `make check-infra` says so.
"""

import gzip
import json
import pathlib
import re
import sys

ADDRESS = "registry.terraform.io/hashicorp/aws"
HERE = pathlib.Path(__file__).resolve().parent


def used(kind):
    """Types of `resource` or `data` blocks in infra/."""
    pattern = re.compile(rf'^{kind} "(aws_\w+)"', re.M)
    files = HERE.parent.rglob("*.tf")
    return {name for file in files for name in pattern.findall(file.read_text(encoding="utf-8"))}


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    with open(sys.argv[1], encoding="utf-8") as file:
        provider = json.load(file)["provider_schemas"][ADDRESS]
    kept = {"provider": provider["provider"]}
    for section, names in (("resource_schemas", used("resource")), ("data_source_schemas", used("data"))):
        missing = sorted(names - provider[section].keys())
        if missing:
            sys.exit(f"trim_schema: the schema has no {', '.join(missing)}")
        kept[section] = {name: provider[section][name] for name in sorted(names)}
    text = json.dumps({"provider_schemas": {ADDRESS: kept}}, separators=(",", ":"), sort_keys=True)
    target = HERE / "schema" / f"aws-{sys.argv[2]}.json.gz"
    # Without a time, so that the same schema is the same file.
    target.write_bytes(gzip.compress(text.encode(), mtime=0))
    print(f"{target.name}: {sum(map(len, kept.values()))} entries, {target.stat().st_size} bytes", file=sys.stderr)


if __name__ == "__main__":
    main()
