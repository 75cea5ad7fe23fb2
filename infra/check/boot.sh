#!/usr/bin/env bash
# Runs the boot scripts' parts that decide something, against stand-ins for AWS and systemd: which secrets are written
# where, that passwords survive being put into URLs, that only changes restart anything, which weights a pool fetches,
# and what the health page answers. With stunnel4 installed, also a tunnel with the right key and one with a wrong one.
set -euo pipefail
cd "$(dirname "$0")/../.."

readonly LIB=$PWD/infra/image/lib
work=$(mktemp -d)
pids=()
finish() {
    ((${#pids[@]} == 0)) || kill "${pids[@]}" 2>/dev/null || true
    rm -rf "$work"
}
trap finish EXIT

fail() { echo "boot: $*" >&2; exit 1; }
equal() { [[ $2 == "$3" ]] || fail "$1: expected <$3>, got <$2>"; }

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

# Until something answers on a port.
await() {
    local tries
    for tries in $(seq 100); do
        (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null && return
        sleep 0.1
    done
    fail "nothing answers on port $1 after $tries tries"
}

mkdir -p "$work/bin" "$work/secrets" "$work/aws"
cat >"$work/bin/aws" <<'EOF'
#!/usr/bin/env bash
# aws secretsmanager get-secret-value --secret-id NAME ...
# aws s3 cp --only-show-errors s3://BUCKET/NAME TO
case $1 in
    secretsmanager) [[ $3 == --secret-id ]] && cat "$FAKE_AWS/$4" ;;
    s3) [[ $2 == cp ]] && cp "$FAKE_AWS/${4##*/}" "$5" && echo "download: $4" ;;
    *) exit 1 ;;
esac
EOF
for program in systemctl chown; do
    cat >"$work/bin/$program" <<EOF
#!/usr/bin/env bash
echo "\$*" >>"\$FAKE_AWS/$program"
EOF
done
chmod +x "$work"/bin/*
export PATH="$work/bin:$PATH" FAKE_AWS=$work/aws STOKER_LIB=$LIB STOKER_SECRETS=$work/secrets
export BOOT_HOME_REGION=us-east-1 BOOT_FLEET=test

check_coordinator_secrets() {
    export BOOT_ROLE=coordinator BOOT_STORE_HOST=db.example BOOT_STORE_SECRET=store BOOT_BROKER_SECRET=broker
    export BOOT_JOIN_SECRET=join BOOT_OPERATOR_SECRET=operator-token BOOT_AUTOSCALER_SECRET=autoscaler-token
    export BOOT_TUNNEL_WORKER_SECRET=worker BOOT_TUNNEL_AUTOSCALER_SECRET=autoscaler BOOT_TUNNEL_OPERATOR_SECRET=operator
    # What RDS puts into a password, and what a shell, a URL or a file of settings would trip over.
    jq -n '{username: "stoker", password: "a b\"$c`d\\e#f%g&h/i@j:k?l\u0027m"}' >"$work/aws/store"
    jq -n '{uri: "amqps://stoker:pw@mq.example:5671/%2f"}' >"$work/aws/broker"
    jq -n '{token: "token-of-the-fleet"}' >"$work/aws/join"
    local bearer
    for bearer in operator autoscaler; do
        jq -n --arg token "token-of-the-$bearer" '{$token}' >"$work/aws/$bearer-token"
    done
    local party
    for party in worker autoscaler operator; do jq -n --arg key "key-of-$party" '{$key}' >"$work/aws/$party"; done
    "$LIB/credentials" fetch
    equal broker "$(cat "$work/secrets/broker.env")" 'STOKER_BROKER_URI=amqps://stoker:pw@mq.example:5671/%2f'
    equal 'join token' "$(cat "$work/secrets/join.env")" 'STOKER_JOIN_TOKEN=token-of-the-fleet'
    equal 'operator token' "$(cat "$work/secrets/operator.env")" 'STOKER_OPERATOR_TOKEN=token-of-the-operator'
    equal 'autoscaler token' "$(cat "$work/secrets/autoscaler.env")" 'STOKER_AUTOSCALER_TOKEN=token-of-the-autoscaler'
    local url password
    url=$(sed 's/^STOKER_STORE=//' "$work/secrets/store.env")
    [[ $url =~ ^postgres://stoker:([A-Za-z0-9%._~-]+)@db\.example:5432/stoker\?sslmode=verify-full ]] || fail "store: $url"
    password=$(python3 -c 'import sys, urllib.parse; print(urllib.parse.unquote(sys.argv[1]))' "${BASH_REMATCH[1]}")
    equal 'password of the store' "$password" "$(jq -r .password "$work/aws/store")"
    equal 'keys of the tunnel' "$(cat "$work/secrets/tunnel.psk")" \
        $'worker:key-of-worker\nautoscaler:key-of-autoscaler\noperator:key-of-operator'
    equal 'mode of a secret' "$(stat -c %a "$work/secrets/store.env")" 400
}

check_refresh() {
    rm -f "$work/aws/systemctl"
    "$LIB/credentials" refresh
    [[ ! -e $work/aws/systemctl ]] || fail 'a refresh without changes restarted something'
    jq -n '{username: "stoker", password: "another"}' >"$work/aws/store"
    "$LIB/credentials" refresh 2>/dev/null
    equal 'restarted' "$(cat "$work/aws/systemctl")" 'try-restart --no-block stoker-coordinator.service'
    # What is not a secret of the right form leaves the old one in place.
    echo '{"uri": null}' >"$work/aws/broker"
    ! "$LIB/credentials" refresh 2>/dev/null || fail 'a broken secret was taken'
    jq -n '{uri: "amqps://stoker:pw@mq.example:5671/%2f"}' >"$work/aws/broker"
    rm "$work/aws/autoscaler"
    ! "$LIB/credentials" refresh 2>/dev/null || fail 'a part of the keys was taken for the whole'
    equal 'number of keys after one was missing' "$(wc -l <"$work/secrets/tunnel.psk")" 3
    equal 'broker after a broken secret' "$(cat "$work/secrets/broker.env")" \
        'STOKER_BROKER_URI=amqps://stoker:pw@mq.example:5671/%2f'
}

# An autoscaler has what it shows the coordinator, and nothing else.
check_autoscaler_secrets() {
    local to=$work/autoscaler-secrets
    mkdir -p "$to"
    jq -n '{key: "key-of-autoscaler"}' >"$work/aws/autoscaler"
    (
        unset "${!BOOT_TUNNEL_@}"
        export BOOT_TUNNEL_AUTOSCALER_SECRET=autoscaler BOOT_ROLE=autoscaler STOKER_SECRETS=$to
        "$LIB/credentials" fetch
    )
    equal 'files of an autoscaler' "$(cd "$to" && echo *)" 'autoscaler.env tunnel.psk'
    equal 'token of an autoscaler' "$(cat "$to/autoscaler.env")" 'STOKER_AUTOSCALER_TOKEN=token-of-the-autoscaler'
    equal 'keys of an autoscaler' "$(cat "$to/tunnel.psk")" 'autoscaler:key-of-autoscaler'
}

check_identity() {
    local to=$work/identity.pem settings
    equal 'settings without certificates' "$(STOKER_IDENTITY_TO=$to "$LIB/identity")" ''
    [[ ! -e $to ]] || fail 'certificates were fetched that nobody gave'
    echo certificates >"$work/aws/identity.pem"
    settings=$(BOOT_BUCKET=bucket BOOT_IDENTITY_ACCOUNT=123456789012 BOOT_IDENTITY_REGIONS=us-east-1,us-west-2 \
        STOKER_IDENTITY_TO=$to "$LIB/identity" 2>/dev/null)
    equal 'settings with certificates' "$settings" "STOKER_IDENTITY_ACCOUNTS=123456789012
STOKER_IDENTITY_REGIONS=us-east-1,us-west-2
STOKER_IDENTITY_CERTIFICATES=$to
STOKER_IDENTITY_NAMELESS=refuse"
    equal certificates "$(cat "$to")" certificates
    rm "$work/aws/identity.pem"
    ! BOOT_BUCKET=bucket BOOT_IDENTITY_ACCOUNT=123456789012 BOOT_IDENTITY_REGIONS=us-east-1 \
        STOKER_IDENTITY_TO=$to "$LIB/identity" >/dev/null 2>&1 || fail 'certificates that are missing were no error'
}

check_weights() {
    cat >"$work/fleet.toml" <<'EOF'
[models.a]
task = "text-embedding"
source = "file:/var/lib/stoker/weights/a/1"
[models.b]
task = "text-embedding"
source = "hf:owner/b"
[models.c]
task = "text-embedding"
source = "file:/var/lib/stoker/weights/c"
[models.evil]
task = "text-embedding"
source = "file:/var/lib/stoker/weights/../../etc"
[pools.gpu]
models = ["a", "b"]
[pools.evil]
models = ["evil"]
EOF
    equal 'weights of a pool' "$(BOOT_POOL=gpu "$LIB/weights" "$work/fleet.toml")" 'a/1'
    ! BOOT_POOL=none "$LIB/weights" "$work/fleet.toml" 2>/dev/null || fail 'a pool that is not there has weights'
    ! BOOT_POOL=evil "$LIB/weights" "$work/fleet.toml" 2>/dev/null || fail 'weights outside their folder were fetched'
}

# A coordinator's pages: /healthz, and /metrics with what `store` holds.
serve_pages() {
    mkdir -p "$work/pages"
    echo ok >"$work/pages/healthz"
    python3 -m http.server --bind 127.0.0.1 --directory "$work/pages" "$1" >/dev/null 2>&1 &
    pids+=($!)
    await "$1"
}

health() { printf 'GET / HTTP/1.1\r\nHost: x\r\n\r\n' | STOKER_PAGES=$1 STOKER_HEALTH_SEEN=$work/seen "$LIB/health" | head -n 1; }

check_health() {
    local port pages
    port=$(free_port)
    pages=http://127.0.0.1:$port
    equal 'without a coordinator' "$(health "$pages")" $'HTTP/1.1 503 Service Unavailable\r'
    serve_pages "$port"
    echo 'stoker_coordinator_ready{part="store"} 0' >"$work/pages/metrics"
    equal 'before the store is there' "$(health "$pages")" $'HTTP/1.1 503 Service Unavailable\r'
    echo 'stoker_coordinator_ready{part="store"} 1' >"$work/pages/metrics"
    equal 'when the store is there' "$(health "$pages")" $'HTTP/1.1 200 OK\r'
    echo 'stoker_coordinator_ready{part="store"} 0' >"$work/pages/metrics"
    equal 'when the store is away later' "$(health "$pages")" $'HTTP/1.1 200 OK\r'
}

check_tunnel() {
    local stunnel=${STUNNEL:-stunnel4} page tunnel way wrong
    command -v "$stunnel" >/dev/null || { echo "boot: skipped the tunnel: stunnel4 is not installed" >&2; return 0; }
    page=$(free_port) tunnel=$(free_port) way=$(free_port) wrong=$(free_port)
    serve_pages "$page"
    printf 'worker:%s\noperator:%s\n' "$(printf 'k%.0s' {1..64})" "$(printf 'o%.0s' {1..64})" >"$work/server.psk"
    printf 'worker:%s\n' "$(printf 'k%.0s' {1..64})" >"$work/client.psk"
    printf 'worker:%s\n' "$(printf 'x%.0s' {1..64})" >"$work/wrong.psk"
    chmod 600 "$work"/*.psk
    STOKER_KEYS=$work/server.psk STOKER_TUNNEL_LISTEN=127.0.0.1:$tunnel STOKER_TUNNEL_TO=127.0.0.1:$page \
        "$LIB/tunnel" server >"$work/server.conf"
    STOKER_KEYS=$work/client.psk STOKER_TUNNEL_LISTEN=127.0.0.1:$way "$LIB/tunnel" client worker "127.0.0.1:$tunnel" >"$work/client.conf"
    STOKER_KEYS=$work/wrong.psk STOKER_TUNNEL_LISTEN=127.0.0.1:$wrong "$LIB/tunnel" client worker "127.0.0.1:$tunnel" >"$work/wrong.conf"
    local end
    for end in server client wrong; do
        "$stunnel" "$work/$end.conf" >"$work/$end.log" 2>&1 &
        pids+=($!)
    done
    await "$tunnel"; await "$way"; await "$wrong"
    equal 'through the tunnel' "$(curl -sf --max-time 10 "http://127.0.0.1:$way/healthz")" ok
    ! curl -sf --max-time 10 "http://127.0.0.1:$wrong/healthz" >/dev/null || fail 'a wrong key was let in'
    ! curl -sf --max-time 10 "http://127.0.0.1:$tunnel/healthz" >/dev/null || fail 'the tunnel spoke without TLS'
    ! curl -skf --max-time 10 "https://127.0.0.1:$tunnel/healthz" >/dev/null || fail 'the tunnel let TLS in without a key'
}

check_certificate() {
    command -v openssl >/dev/null || { echo 'boot: skipped the certificate: openssl is not installed' >&2; return 0; }
    STOKER_CERTIFICATE_OUT=$work infra/bin/broker-certificate test 30 2>/dev/null
    jq -r .certificate "$work/secret.json" >"$work/server.pem"
    openssl verify -CAfile "$work/ca.pem" -verify_hostname broker.test.stoker.internal "$work/server.pem" >/dev/null
    openssl verify -CAfile "$work/ca.pem" -verify_hostname node-2.test.stoker.internal "$work/server.pem" >/dev/null
    ! openssl verify -CAfile "$work/ca.pem" -verify_hostname other.example "$work/server.pem" >/dev/null 2>&1 ||
        fail 'the certificate is good for another host'
    equal 'key and certificate' "$(jq -r .key "$work/secret.json" | openssl pkey -pubout 2>/dev/null)" \
        "$(openssl x509 -in "$work/server.pem" -noout -pubkey)"
}

check_coordinator_secrets
check_refresh
check_autoscaler_secrets
check_identity
check_weights
check_health
check_tunnel
check_certificate
echo 'boot: all good' >&2
