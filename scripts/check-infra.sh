#!/usr/bin/env bash
# Checks infra/ without touching a cloud: formatting, arguments against the provider's schema, tests with a mocked
# cloud, a security scanner, scripts, units, user data, alert rules and dashboards. Needs no network once its tools are
# there (scripts/infra-tools.sh). A check whose tool is missing is skipped and said so; STOKER_REQUIRE_INFRA=1 makes
# that a failure.
#
# The AWS provider: STOKER_TF_PLUGINS names a filesystem mirror that has it; without one, mirrors are looked for where
# Terraform and people put them. Whatever is found, the stand-in of infra/check checks against the schema of a later
# version, too, and tests run on it where there is no real provider. What the stand-in cannot find: values that the
# provider itself refuses (enums, lengths, arguments that exclude each other).
set -euo pipefail
cd "$(dirname "$0")/.."

readonly TOOLS=$PWD/.cache/infra SCHEMA=6.69.1
export PATH="$PATH:$TOOLS/debian/usr/bin:$TOOLS/debian/usr/sbin"
export CHECKPOINT_DISABLE=1 PYTHONDONTWRITEBYTECODE=1
skipped=() failed=()
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

say() { echo "check-infra: $*" >&2; }

skip() { skipped+=("$*"); say "SKIPPED $*"; }

has() { command -v "$1" >/dev/null 2>&1; }

# Runs a check and goes on: one run names everything that is wrong.
check() {
    local what=$1 from=$SECONDS
    shift
    if "$@"; then say "$what: good, $((SECONDS - from)) s"; else failed+=("$what"); say "$what: FAILED"; fi
}

formatting() { terraform fmt -check -diff -recursive infra; }

# Folders that are configurations: environments, and modules with tests of their own.
tested() { (cd "$work/infra" && find environments modules -name '*.tftest.hcl' | sed 's|/tests/.*||' | sort -u); }

# The newest version that a mirror has.
version_in() {
    find "$1/registry.terraform.io/hashicorp/aws" -maxdepth 2 2>/dev/null |
        grep -oE '[0-9]+\.[0-9]+\.[0-9]+' | sort -Vu | tail -n 1
}

find_mirror() {
    local mirror
    for mirror in "${STOKER_TF_PLUGINS:-}" "$HOME/.terraform.d/plugins" /usr/local/share/terraform/plugins \
        /usr/share/terraform/plugins /opt/*; do
        [[ -n $mirror && -n $(version_in "$mirror") ]] || continue
        echo "$mirror"
        return
    done
}

use_mirror() {
    cat >"$work/$1.tfrc" <<EOF
provider_installation {
  filesystem_mirror {
    path    = "$2"
    include = ["registry.terraform.io/*/*"]
  }
}
EOF
}

# A mirror with the stand-in in it.
make_stand_in() {
    local folder=$work/stand-in/registry.terraform.io/hashicorp/aws/$SCHEMA/linux_amd64
    mkdir -p "$folder"
    cat >"$folder/terraform-provider-aws_v$SCHEMA" <<EOF
#!/usr/bin/env bash
export STOKER_PROVIDER_SCHEMA=$work/infra/check/schema/aws-$SCHEMA.json.gz
exec $TOOLS/provider/bin/python $work/infra/check/provider.py
EOF
    chmod +x "$folder/terraform-provider-aws_v$SCHEMA"
    use_mirror stand-in "$work/stand-in"
}

# Terraform in a folder of the copy, with a provider.
tf() {
    local provider=$1 folder=$2
    shift 2
    (cd "$work/infra/$folder" &&
        TF_CLI_CONFIG_FILE=$work/$provider.tfrc TF_DATA_DIR=$work/data/$provider/$folder \
            terraform "$@" -no-color)
}

initialize() {
    local log=$work/init-${2//\//-}.log
    rm -f "$work/infra/$2/.terraform.lock.hcl"
    tf "$1" "$2" init -backend=false -input=false >"$log" 2>&1 || { cat "$log" >&2; return 1; }
}

validate() {
    local folder
    for folder in environments/dev environments/prod; do
        initialize "$1" "$folder" && tf "$1" "$folder" validate || return 1
    done
}

test_folder() {
    initialize "$1" "$2" && tf "$1" "$2" test >"$work/test-${2//\//-}.log" 2>&1 && return
    cat "$work/test-${2//\//-}.log" >&2
    return 1
}

# The heavy ones, of whole environments, go first; two at a time.
mocked_tests() {
    export -f test_folder initialize tf
    export work
    tested | xargs -P 2 -I '{}' bash -c "test_folder $1 {}" &&
        say "$(cat "$work"/test-*.log | grep -c '\.\.\. pass') runs of terraform test have passed"
}

scan() {
    (cd infra && "$TOOLS/scanner/bin/checkov" -d . --framework terraform --skip-download --compact --output json) \
        >"$work/scan.json" 2>"$work/scan.log" || true
    python3 - "$work/scan.json" <<'EOF' || { cat "$work/scan.log" >&2; return 1; }
import json, sys
report = json.load(open(sys.argv[1]))
for check in report["results"]["failed_checks"]:
    print(f"{check['check_id']} {check['check_name']}: {check['resource']} in {check['file_path']}", file=sys.stderr)
summary = report["summary"]
print(f"check-infra: scanner: {summary['passed']} passed, {summary['skipped']} skipped with a reason", file=sys.stderr)
sys.exit(1 if summary["failed"] or summary["parsing_errors"] or not summary["passed"] else 0)
EOF
    python3 infra/check/rules.py infra "$work/scan.json"
}

scripts_of_infra() { grep -rlE '^#!.*bash' infra/bin infra/image infra/check; echo infra/image/lib/common; }

scripts_parse() {
    local script
    for script in $(scripts_of_infra); do bash -n "$script" || return 1; done
    for script in infra/check/*.py infra/image/lib/weights; do
        python3 -c 'import ast, sys; ast.parse(open(sys.argv[1]).read(), sys.argv[1])' "$script" || return 1
    done
}

scripts_lint() {
    local scripts
    mapfile -t scripts < <(scripts_of_infra)
    shellcheck -x "${scripts[@]}"
}

# In a root of their own, where the programs that they start are empty files.
units() {
    local root=$work/root program
    mkdir -p "$root/etc/systemd/system" "$root/usr/lib/systemd/system"
    cp infra/systemd/* "$root/etc/systemd/system/"
    cp -a /usr/lib/systemd/system/. "$root/usr/lib/systemd/system/" 2>/dev/null || cp -a /lib/systemd/system/. "$root/usr/lib/systemd/system/"
    ln -sfn usr/bin "$root/bin"
    while read -r program; do
        install -D -m 0755 /dev/null "$root$program"
    done < <(sed -n 's/^Exec[A-Za-z]*=\([^ ]*\).*/\1/p' infra/systemd/* | sed 's|^/bin/|/usr/bin/|' | sort -u)
    systemd-analyze verify --man=no --root="$root" "$root"/etc/systemd/system/* 2>&1 | grep -E '^(stoker|/.*stoker)' >&2 && return 1
    # How much each may do, out of 10: 1 is very little.
    systemd-analyze security --offline=yes --threshold=45 --root="$root" --no-pager \
        stoker-worker@.service stoker-coordinator.service stoker-autoscaler.service stoker-tunnel.service \
        stoker-agent.service stoker-health@.service >"$work/security.log" 2>&1 || { grep -E 'Overall|stoker' "$work/security.log" >&2; return 1; }
}

user_data() {
    local template=$work/infra/modules/host/user-data.yaml.tftpl
    mkdir -p "$work/empty"
    (cd "$work/empty" && TF_CLI_CONFIG_FILE=/dev/null terraform console <<EOF
templatefile("$template", { role = "worker", settings = { BOOT_POOL = "gpu", BOOT_BUCKET = "stoker-bucket" } })
EOF
    ) | sed '/^<<EOT$/d; /^EOT$/d' >"$work/user-data.yaml"
    "$TOOLS/scanner/bin/python" infra/check/user_data.py \
        "$TOOLS/debian/usr/lib/python3/dist-packages/cloudinit/config/schemas/schema-cloud-config-v1.json" <"$work/user-data.yaml"
}

alert_rules() { promtool check rules infra/observability/rules/*.yml >"$work/rules.log" || { cat "$work/rules.log"; return 1; }; }

alert_tests() { promtool test rules infra/observability/tests/*.yml; }

alerts_say_what_to_do() { "$TOOLS/scanner/bin/python" infra/check/alerts.py infra; }

image_recipe() { packer fmt -check infra/image && packer validate -syntax-only -var 'regions=["us-east-1"]' infra/image; }

recipe_parses() {
    "$TOOLS/scanner/bin/python" -c 'import hcl2, sys; hcl2.load(open(sys.argv[1]))' infra/image/stoker.pkr.hcl
}

# Data sources and plugins came after the version that Debian 12 has.
has_packer() { has packer && [[ $(printf '1.9\n%s\n' "$(packer version | grep -oE '[0-9]+\.[0-9.]+' | head -n 1)" | sort -V | head -n 1) == 1.9 ]]; }

cp -a infra "$work/infra"
if has terraform; then
    check formatting formatting
    mirror=$(find_mirror)
    tests_on=
    if [[ -n $mirror ]]; then
        use_mirror real "$mirror"
        check "validate with hashicorp/aws $(version_in "$mirror")" validate real
        tests_on=real
    else
        skip "validate with the real provider: no mirror has it; STOKER_TF_PLUGINS names one"
    fi
    if [[ -x $TOOLS/provider/bin/python ]]; then
        make_stand_in
        check "arguments against the schema of hashicorp/aws $SCHEMA" validate stand-in
        tests_on=${tests_on:-stand-in}
    else
        skip "arguments against the schema of hashicorp/aws $SCHEMA: the stand-in's packages are missing"
    fi
    if [[ -n $tests_on ]]; then
        check "terraform test ($tests_on provider)" mocked_tests "$tests_on"
    else
        skip "terraform test: there is neither a provider nor the stand-in"
    fi
else
    skip "formatting, validate and test: terraform is not installed"
fi
check 'rules of infra' python3 infra/check/rules.py infra
if [[ -x $TOOLS/scanner/bin/checkov ]]; then check 'security scanner' scan; else skip 'security scanner: checkov is missing'; fi
check 'scripts parse' scripts_parse
if has shellcheck; then check 'shellcheck' scripts_lint; else skip 'shellcheck: it is not installed'; fi
if has jq && has curl; then check 'boot scripts' infra/check/boot.sh; else skip 'boot scripts: jq or curl is not installed'; fi
if has systemd-analyze; then check 'units' units; else skip 'units: systemd-analyze is not installed'; fi
if has terraform && [[ -x $TOOLS/scanner/bin/python && -e $TOOLS/debian/usr/lib/python3/dist-packages/cloudinit ]]; then
    check 'user data' user_data
else
    skip "user data: terraform, cloud-init's schema or the scanner's Python is missing"
fi
if has promtool; then
    check 'alert rules' alert_rules
    check 'tests of alerts' alert_tests
else
    skip 'alert rules and their tests: promtool is not installed'
fi
if [[ -x $TOOLS/scanner/bin/python ]]; then check 'alerts and dashboards' alerts_say_what_to_do; else skip "alerts and dashboards: the scanner's Python is missing"; fi
if [[ -x $TOOLS/scanner/bin/python ]]; then check 'image recipe parses' recipe_parses; else skip "image recipe parses: the scanner's Python is missing"; fi
if has_packer; then check 'image recipe' image_recipe; else skip 'image recipe: packer 1.9 or later is not installed'; fi

for what in "${skipped[@]}"; do say "skipped: $what"; done
for what in "${failed[@]}"; do say "failed: $what"; done
((${#failed[@]} == 0)) || exit 1
[[ ${STOKER_REQUIRE_INFRA:-} != 1 || ${#skipped[@]} -eq 0 ]] || { say 'skips are failures (STOKER_REQUIRE_INFRA=1)'; exit 1; }
