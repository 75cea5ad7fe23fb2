#!/usr/bin/env bash
# Runs a RabbitMQ node of one's own: own ports, folders, cookie, password and port mapper (epmd), all on
# the loopback interface. It never looks at, talks to or configures a broker that runs already.
#
#   scripts/rabbitmq-private.sh start DIR   prints STOKER_BROKER_URI=amqp://... when the node answers
#   scripts/rabbitmq-private.sh stop DIR    stops the node; DIR and its log stay
#
# Start on a DIR whose node is up prints the same line again. Needs the rabbitmq-server package
# installed (make deps), not a running service, and no root.
set -euo pipefail

readonly START_SECONDS=120 STOP_SECONDS=30 PORT_TRIES=50 START_TRIES=3

die() {
    echo "rabbitmq-private: $*" >&2
    exit 1
}

usage() {
    sed -n '2,9s/^# \{0,1\}//p' "$0" >&2
    exit 2
}

# Debian puts a wrapper that changes user on PATH; the scripts behind it run as whoever calls them.
find_server() {
    local candidate
    for candidate in /usr/lib/rabbitmq/bin "$(dirname "$(command -v rabbitmq-server || echo /none/x)")"; do
        if [[ -x $candidate/rabbitmq-server ]]; then
            echo "$candidate/rabbitmq-server"
            return
        fi
    done
    die "no rabbitmq-server on this machine; install it with 'make deps' or your package manager"
}

find_epmd() {
    local candidate
    candidate=$(command -v epmd || true)
    [[ -n $candidate ]] || candidate=$(compgen -G '/usr/lib/erlang/erts-*/bin/epmd' | head -n 1 || true)
    [[ -n $candidate ]] || die "no epmd on this machine; it comes with Erlang, which rabbitmq-server needs"
    echo "$candidate"
}

listens() {
    (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

# A port below the kernel's ephemeral range, so that no outgoing connection takes it meanwhile.
free_port() {
    local try port
    for ((try = 0; try < PORT_TRIES; try++)); do
        port=$((20000 + RANDOM % 12000))
        if ! listens "$port"; then
            echo "$port"
            return
        fi
    done
    die "found no free port between 20000 and 31999 in $PORT_TRIES tries"
}

# Is process $2 alive and ours? A process id alone may have gone to somebody else.
ours() {
    [[ -n $2 && -r /proc/$2/cmdline ]] && tr '\0' ' ' <"/proc/$2/cmdline" | grep -qF -- "$1"
}

pid_of() {
    cat "$DIR/$1.pid" 2>/dev/null || true
}

node_alive() { ours "$DIR" "$(pid_of node)"; }

write_config() {
    local port=$1 secret=$2
    mkdir -p "$DIR"/home "$DIR"/data "$DIR"/log
    chmod 700 "$DIR"
    : >"$DIR/env.conf"
    echo '[].' >"$DIR/advanced.config"
    echo '[].' >"$DIR/enabled_plugins"
    (
        umask 077
        cat >"$DIR/rabbitmq.conf" <<-CONF
		listeners.tcp.1 = 127.0.0.1:$port
		default_user = stoker
		default_pass = $secret
		log.file.level = info
		log.console = false
		CONF
        echo "STOKER_BROKER_URI=amqp://stoker:$secret@127.0.0.1:$port/%2f" >"$DIR/uri"
    )
}

launch_epmd() {
    local port=$1
    setsid "$(find_epmd)" -port "$port" -address 127.0.0.1 </dev/null >"$DIR/log/epmd.log" 2>&1 &
    echo $! >"$DIR/epmd.pid"
    echo "$port" >"$DIR/epmd.port"
}

launch_node() {
    local amqp_port=$1 epmd_port=$2 dist_port=$3 server=$4
    env -i PATH="$PATH" LANG=C.UTF-8 HOME="$DIR/home" \
        ERL_EPMD_PORT="$epmd_port" ERL_EPMD_ADDRESS=127.0.0.1 \
        RABBITMQ_NODENAME="stoker-$amqp_port@localhost" \
        RABBITMQ_NODE_IP_ADDRESS=127.0.0.1 RABBITMQ_NODE_PORT="$amqp_port" \
        RABBITMQ_DIST_PORT="$dist_port" \
        RABBITMQ_MNESIA_BASE="$DIR/data" RABBITMQ_LOG_BASE="$DIR/log" \
        RABBITMQ_CONF_ENV_FILE="$DIR/env.conf" RABBITMQ_CONFIG_FILE="$DIR/rabbitmq.conf" \
        RABBITMQ_ADVANCED_CONFIG_FILE="$DIR/advanced.config" \
        RABBITMQ_ENABLED_PLUGINS_FILE="$DIR/enabled_plugins" RABBITMQ_PID_FILE="$DIR/node.pid" \
        ERL_CRASH_DUMP="$DIR/log/erl_crash.dump" \
        RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="-kernel inet_dist_use_interface {127,0,0,1}" \
        setsid "$server" </dev/null >"$DIR/log/console.log" 2>&1 &
    echo $! >"$DIR/launcher.pid"
}

launcher_alive() { kill -0 "$(pid_of launcher)" 2>/dev/null; }

await_node() {
    local port=$1 deadline=$((SECONDS + START_SECONDS))
    until node_alive && listens "$port" && grep -qs 'startup complete' "$DIR"/log/*.log; do
        launcher_alive && ((SECONDS < deadline)) || return 1
        sleep 0.2
    done
}

# Somebody took a port between our look at it and the node's; nodistribution is what the node says without its port mapper.
lost_a_port() {
    grep -qsE 'dist_port_already_used|eaddrinuse|nodistribution' "$DIR"/log/*.log
}

start() {
    local try amqp_port
    if node_alive; then
        cat "$DIR/uri"
        return
    fi
    for ((try = 1; ; try++)); do
        stop
        amqp_port=$(free_port)
        launch "$amqp_port"
        if await_node "$amqp_port"; then
            cat "$DIR/uri"
            return
        fi
        lost_a_port && ((try < START_TRIES)) || break
    done
    tail -n 20 "$DIR"/log/*.log >&2 || true
    stop
    die "the node did not come up; its last log lines are above, all of them in $DIR/log"
}

launch() {
    local amqp_port=$1 epmd_port dist_port secret server
    server=$(find_server)
    epmd_port=$(free_port)
    dist_port=$(free_port)
    secret=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
    # Data of an earlier start belong to a node of another name and password.
    rm -rf "${DIR:?}"/{data,log,home}
    write_config "$amqp_port" "$secret"
    launch_epmd "$epmd_port"
    launch_node "$amqp_port" "$epmd_port" "$dist_port" "$server"
}

# Ends a process of ours: politely, then, after the time is up, not.
end() {
    local mark=$1 pid=$2 deadline=$((SECONDS + STOP_SECONDS))
    ours "$mark" "$pid" || return 0
    kill -TERM "$pid" 2>/dev/null || true
    while ours "$mark" "$pid"; do
        ((SECONDS < deadline)) || kill -KILL "$pid" 2>/dev/null || true
        sleep 0.1
    done
}

stop() {
    local epmd_port
    end "$DIR" "$(pid_of node)"
    epmd_port=$(cat "$DIR/epmd.port" 2>/dev/null || true)
    [[ -z $epmd_port ]] || end "epmd -port $epmd_port" "$(pid_of epmd)"
    rm -f "$DIR"/{node,epmd,launcher}.pid "$DIR/epmd.port" "$DIR/uri"
}

[[ $# -eq 2 ]] || usage
[[ $1 == start || $1 == stop ]] || usage
[[ $2 != *[[:space:]]* ]] || die "DIR must not contain white space, Erlang's start scripts split on it: '$2'"
[[ $1 == stop && ! -d $2 ]] && exit 0
mkdir -p "$2"
DIR=$(cd "$2" && pwd)
readonly DIR
"$1"
