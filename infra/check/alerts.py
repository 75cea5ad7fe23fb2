#!/usr/bin/env python3
"""Checks what promtool does not: that each alert says what to do and is tested, and that dashboards can be loaded.

    alerts.py INFRA
"""

import json
import pathlib
import sys

import yaml

ANNOTATIONS = ("summary", "description", "runbook")
SEVERITIES = ("critical", "warning", "info")


def alert_breaches(folder):
    """What is wrong with alerts and their tests."""
    tests = [test for file in sorted((folder / "tests").glob("*.yml"))
             for test in yaml.safe_load(file.read_text(encoding="utf-8"))["tests"]]
    checks = [check for test in tests for check in test["promql_expr_test"]]
    firing = {sample["labels"] for check in checks for sample in check["exp_samples"]}
    for file in sorted((folder / "rules").glob("*.yml")):
        alerts = [rule for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]
                  for rule in group["rules"] if "alert" in rule]
        for alert in alerts:
            name = alert["alert"]
            for annotation in ANNOTATIONS:
                if len(alert.get("annotations", {}).get(annotation, "")) < 20:
                    yield f"{file.name}: {name} has no {annotation}"
            if alert.get("labels", {}).get("severity") not in SEVERITIES:
                yield f"{file.name}: {name} has no severity of {', '.join(SEVERITIES)}"
            if not any(f'alertname="{name}", alertstate="firing"' in labels for labels in firing):
                yield f"{file.name}: no test makes {name} fire"


def dashboard_breaches(folder):
    """What keeps a dashboard from being of use."""
    uids = {}
    for file in sorted((folder / "dashboards").glob("*.json")):
        dashboard = json.loads(file.read_text(encoding="utf-8"))
        if uids.setdefault(dashboard["uid"], file.name) != file.name:
            yield f"{file.name}: has the uid of {uids[dashboard['uid']]}"
        variables = [variable["name"] for variable in dashboard["templating"]["list"]]
        if variables[:2] != ["datasource", "fleet"]:
            yield f"{file.name}: its first variables are not `datasource` and `fleet`"
        ids = [panel["id"] for panel in dashboard["panels"]]
        if len(ids) != len(set(ids)):
            yield f"{file.name}: two panels have the same id"
        for panel in dashboard["panels"]:
            for target in panel["targets"]:
                if 'fleet="$fleet"' not in target["expr"]:
                    yield f"{file.name}: `{panel['title']}` shows other fleets, too"
                if target["datasource"].get("uid") != "${datasource}":
                    yield f"{file.name}: `{panel['title']}` has a data source of its own"


def main():
    folder = pathlib.Path(sys.argv[1]) / "observability"
    found = [*alert_breaches(folder), *dashboard_breaches(folder)]
    for breach in found:
        print(f"alerts: {breach}", file=sys.stderr)
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
