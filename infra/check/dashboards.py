#!/usr/bin/env python3
"""Loads every query of the dashboards, and every alert rule, into a real Prometheus that scrapes a running fleet.

    dashboards.py PROGRAMS [PROMETHEUS]

PROGRAMS is the folder of Stoker's own programs. A fleet of `stoker dev --autoscale` is started on ports of its own and given
jobs; Prometheus scrapes its coordinator, its autoscaler and the workers that this one starts. Fails on a query that Prometheus refuses, on a rule that it cannot
evaluate, and on a metric that the fleet does not report and that is not in `NOT_HERE`, which says why.
"""

import contextlib
import json
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "observability"
METRIC = re.compile(r"\bstoker_[a-z0-9_]+")
LIMIT = 120  # seconds to wait for anything

# What a fleet on one machine without a GPU, with the embedded broker and without faults does not report.
NOT_HERE = {
    "stoker_worker_gpu_": "there is no GPU",
    "stoker_broker_connected": "the embedded broker has no connections",
    "stoker_broker_disconnects_total": "the embedded broker has no connections",
    "stoker_broker_blocked": "only RabbitMQ blocks",
    "stoker_broker_parked_total": "nobody sends messages that are not Stoker's",
    "stoker_coordinator_fenced_total": "no attempt was overtaken",
    "stoker_runtime_task_panics_total": "no task panicked",
    "stoker_worker_cloud_notices_total": "no cloud announces anything",
    "stoker_worker_draining": "no worker goes",
    "stoker_worker_engine_restarts_total": "no engine crashed",
    "stoker_worker_handed_over_jobs_total": "no worker went",
    "stoker_worker_model_evictions_total": "all models fit into memory",
    "stoker_worker_spooled_results_total": "every result was delivered at once",
    "stoker_autoscaler_interruptions_total": "no machine is taken back",
    "stoker_cloud_calls_total": "this machine is the cloud, and is not called over a network",
}

FLEET = """
fleet = "dev"
[classes.standard]
max-wait = "60s"
[models.echo]
task = "echo"
[pools.default]
models = ["echo"]
[pools.default.scaling]
min = 2
[[pools.default.offerings]]
instance-type = "small"
zone = "local"
capacity = "spot"
price = 0.3
[budget]
per-day = 10.0
per-month = 200.0
[provider.local]
boot = "100ms"
"""


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def until(what, probe, *processes):
    """The first answer of `probe` that is not empty; fails at once when one of `processes` has ended."""
    last = None
    end = time.monotonic() + LIMIT
    while time.monotonic() < end:
        if any(process.poll() is not None for process in processes):
            raise TimeoutError(f"a process ended before {what} came")
        try:
            last = probe()
            if last:
                return last
        except (OSError, ValueError, KeyError, subprocess.CalledProcessError) as error:
            last = error
        time.sleep(0.2)
    raise TimeoutError(f"{what} did not come within {LIMIT} s; last seen: {last!r}")


@contextlib.contextmanager
def running(arguments, log):
    """A process that is asked to end when it is no longer needed."""
    with open(log, "wb") as output:
        process = subprocess.Popen(arguments, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Prometheus:
    """The server's API."""

    def __init__(self, port):
        self.base = f"http://127.0.0.1:{port}/api/v1"

    def get(self, path, **parameters):
        url = f"{self.base}/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise ValueError(json.load(error).get("error", error.reason)) from error


def queries():
    """(where, query) of every panel, with the variables of Grafana filled in."""
    for file in sorted((FOLDER / "dashboards").glob("*.json")):
        dashboard = json.loads(file.read_text(encoding="utf-8"))
        for panel in dashboard["panels"]:
            for target in panel["targets"]:
                query = target["expr"].replace("$fleet", "dev").replace("$__rate_interval", "1m")
                yield f"{file.name}: {panel['title']}", query
        for variable in dashboard["templating"]["list"]:
            if variable["type"] == "query":
                yield f"{file.name}: ${variable['name']}", re.sub(r"label_values\((\w+),.*\)", r"\1", variable["definition"])


def rules(groups):
    """(where, query) of every rule as Prometheus has it."""
    for group in groups:
        for rule in group["rules"]:
            yield f"{pathlib.Path(group['file']).name}: {rule['name']}", rule["query"]


def known(name, reported):
    """Whether the fleet reports a metric, or may leave it out."""
    base = re.sub(r"_(bucket|sum|count)$", "", name)
    if name in reported or base in reported:
        return True
    return any(base.startswith(start) for start in NOT_HERE)


def configuration(folder, server, autoscaler, workers):
    """Prometheus's settings, with the labels that the agent of infra/image gives."""
    def job(name, address, host):
        labels = f'{{fleet: dev, role: {name}, pool: default, host: "{host}"}}'
        return f'  - job_name: "{host}"\n    static_configs: [{{targets: ["{address}"], labels: {labels}}}]\n'

    jobs = job("coordinator", server, "c-0") + job("autoscaler", autoscaler, "a-0")
    jobs += "".join(job("worker", worker, f"w-{n}") for n, worker in enumerate(workers))
    file = folder / "prometheus.yml"
    file.write_text(f"global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n"
                    f"rule_files: ['{FOLDER}/rules/*.yml']\nscrape_configs:\n{jobs}", encoding="utf-8")
    return file


def metrics_addresses(*logs):
    """Where processes serve their metrics, as they say in their logs."""
    texts = "".join(log.read_text(encoding="utf-8") for log in logs)
    return sorted(set(re.findall(r'"metrics are served","address":"([^"]+)"', texts)))


def look(prometheus):
    """Everything that is wrong."""
    groups = prometheus.get("rules")["groups"]
    for group in groups:
        for rule in group["rules"]:
            if rule["health"] != "ok":
                yield f"{rule['name']}: {rule.get('lastError', rule['health'])}"
    reported = set(prometheus.get("label/__name__/values"))
    with_data = 0
    everything = [*queries(), *rules(groups)]
    for where, query in everything:
        try:
            with_data += bool(prometheus.get("query", query=query)["result"])
        except ValueError as error:
            yield f"{where}: {error}"
        for name in sorted(set(METRIC.findall(query))):
            if not known(name, reported):
                yield f"{where}: the fleet does not report {name}"
    for name in sorted(reported):
        if any(name.startswith(start) for start in NOT_HERE):
            yield f"the fleet does report {name}: take it out of NOT_HERE"
    print(f"dashboards: {len(everything)} queries, {with_data} with data, {len(reported)} metrics", file=sys.stderr)


def examine(stack, folder, stoker, binary):
    """Starts a fleet and Prometheus, and returns everything that is wrong."""
    port, server = free_port(), f"127.0.0.1:{free_port()}"
    log, data, settings = folder / "fleet.log", folder / "data", folder / "fleet.toml"
    settings.write_text(FLEET, encoding="utf-8")
    dev = [stoker, "dev", "--autoscale", "--listen", server, "--fleet", str(settings), "--data", str(data)]
    fleet = stack.enter_context(running(dev, log))
    autoscaler, = until("an autoscaler", lambda: metrics_addresses(log), fleet)
    logs = data / "machines" / "logs"
    workers = until("two workers", lambda: len(found := metrics_addresses(*logs.glob("*"))) == 2 and found, fleet)
    submit = [stoker, "--server", f"http://{server}", "submit", "--model", "echo", "--no-wait", "one", "two", "three"]
    until("a job", lambda: subprocess.run(submit, check=True, capture_output=True).stdout, fleet)
    arguments = [binary, f"--config.file={configuration(folder, server, autoscaler, workers)}",
                 f"--storage.tsdb.path={folder / 'tsdb'}", f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"]
    process = stack.enter_context(running(arguments, folder / "prometheus.log"))
    prometheus = Prometheus(port)

    def ready():
        # Counters need two looks before they have a rate.
        subprocess.run(submit, check=True, capture_output=True)
        up = prometheus.get("query", query="sum(up)")["result"]
        rate = prometheus.get("query", query="sum(rate(stoker_worker_items_total[1m])) > 0")["result"]
        groups = prometheus.get("rules")["groups"]
        evaluated = groups and all(rule["health"] != "unknown" for group in groups for rule in group["rules"])
        return evaluated and rate and up and float(up[0]["value"][1]) == 2 + len(workers)

    until("metrics of all of the fleet", ready, fleet, process)
    return list(look(prometheus))


def main():
    programs = pathlib.Path(sys.argv[1]).resolve()
    stoker, binary = str(programs / "stoker"), sys.argv[2] if len(sys.argv) > 2 else "prometheus"
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        try:
            found = examine(stack, folder, stoker, binary)
        except TimeoutError:
            for log in sorted(folder.glob("*.log")):
                print(f"dashboards: {log.name} ends so:\n{log.read_text(errors='replace')[-4000:]}", file=sys.stderr)
            raise
    for breach in found:
        print(f"dashboards: {breach}", file=sys.stderr)
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
