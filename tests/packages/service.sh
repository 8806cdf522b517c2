# Sourced by the tests of the packages, on a separate machine: the installed service under a real systemd. It is
# already running.

environment=/etc/timewait_exporter/environment
drop_in=/usr/share/timewait_exporter/systemd/namespaces.conf
failures_drop_in=/usr/share/timewait_exporter/systemd/connect-failures.conf
drop_ins=/etc/systemd/system/timewait_exporter.service.d

# The text of a scrape on a port.
scrape() { curl --silent --fail --max-time 5 "http://localhost:${1:-10072}/metrics"; }

scrape_is_whole() {
    local text
    text=$(scrape "${1:-10072}") || return
    grep -qx 'timewait_scrape_source{source="netlink"} 1' <<<"$text" || {
        echo "not from netlink"
        return 1
    }
    # Only root can read slabinfo; its absence does not affect the others.
    local collector
    for collector in sockets sysctl netstat sockstat; do
        grep -qx "timewait_scrape_collector_success{collector=\"$collector\"} 1" <<<"$text" || {
            echo "$collector failed"
            return 1
        }
    done
}

# A PROPERTY of the service's process, from systemd.
property() { systemctl show --value --property "$1" timewait_exporter.service; }

# FIELD of /proc/PID/status.
status_field() {
    sed -n "s/^$1:[[:space:]]*//p" "/proc/$(property MainPID)/status"
}

is_unprivileged() {
    local uid
    uid=$(status_field Uid | cut -f1)
    echo "uid $uid, capabilities $(status_field CapEff), seccomp $(status_field Seccomp)"
    # systemd's range of dynamic users.
    [ "$uid" -ge 61184 ] && [ "$uid" -le 65519 ] &&
        [ "$(status_field CapEff)" = 0000000000000000 ] &&
        [ "$(status_field CapBnd)" = 0000000000000000 ] &&
        [ "$(status_field NoNewPrivs)" = 1 ] && [ "$(status_field Seccomp)" = 2 ]
}

# CAP_SYS_PTRACE is bit 19, CAP_SYS_ADMIN is bit 21.
may_enter_namespaces() {
    echo "$(status_field CapEff)"
    [ "$(status_field CapEff)" = 0000000000280000 ]
}

# CAP_PERFMON is bit 38.
may_count_failures() {
    echo "$(status_field CapEff)"
    [ "$(status_field CapEff)" = 0000004000000000 ]
}

tracepoint=/sys/kernel/tracing/events/sock/inet_sock_set_state/id

# Where the tracepoint's ID can be read; elsewhere the metric is absent.
counts_failures() {
    local text
    text=$(scrape) || return
    if [ -r "$tracepoint" ]; then
        grep -qx 'timewait_scrape_collector_success{collector="failures"} 1' <<<"$text" &&
            grep -q '^timewait_connect_failures_total ' <<<"$text"
    else
        echo "there is no $tracepoint"
        ! grep -q '^timewait_connect_failures_total ' <<<"$text"
    fi
}

# exposure_is_at_most TENTHS
exposure_is_at_most() {
    local level
    level=$(systemd-analyze security --no-pager timewait_exporter.service |
        sed -n 's/.*Overall exposure level.*: \([0-9]*\)\.\([0-9]\).*/\1\2/p')
    echo "exposure in tenths: $level"
    [ "$((10#$level))" -le "$1" ]
}

# systemd would refuse further starts after five in ten seconds.
forget_starts() { systemctl reset-failed timewait_exporter.service; }

reload() { systemctl daemon-reload && systemctl restart timewait_exporter.service; }

reported_ready() {
    systemctl --quiet is-active timewait_exporter.service && [ "$(property Type)" = notify ]
}

ended_in_good_order() {
    systemctl stop timewait_exporter.service && [ "$(property Result)" = success ] &&
        eventually journal_has "Shutting down"
}

journal_has() { journalctl --no-pager --unit timewait_exporter.service | grep -qF "$1"; }

check_service() {
    check "the service reports to systemd that it is ready" reported_ready
    check "a scrape of the service is complete" eventually scrape_is_whole
    check "the service has no privileges" is_unprivileged
    check "systemd-analyze verify reports nothing" \
        succeeds_quietly systemd-analyze verify timewait_exporter.service timewait_exporter.socket
    check "the exposure is at most 1.2" exposure_is_at_most 12

    echo 'TIMEWAIT_EXPORTER_WEB_LISTEN_ADDRESS=:10073' >>"$environment"
    systemctl restart timewait_exporter.service
    check "the environment file moves it to another port" eventually scrape_is_whole 10073
    sed -i '$d' "$environment"

    forget_starts
    check_wrong_settings
    forget_starts
    check_unix_socket
    forget_starts
    check_namespaces
    check_connect_failures
    forget_starts
    check_web_config
    forget_starts
    check_socket
    forget_starts
    check_socket_for_a_group
}

# Not "activating", its state while it waits for the next try.
has_failed_for_good() {
    not systemctl restart timewait_exporter.service || return
    echo "$(property ActiveState), $(property Result), $(property NRestarts) restarts"
    [ "$(property ActiveState)" = failed ] && [ "$(property ExecMainStatus)" = 2 ]
}

check_wrong_settings() {
    echo 'TIMEWAIT_EXPORTER_COLLECTOR_TOP=none' >>"$environment"
    check "an invalid variable ends the service permanently" has_failed_for_good
    check "the journal names it" eventually journal_has TIMEWAIT_EXPORTER_COLLECTOR_TOP
    sed -i '$d' "$environment"
    check "the service starts when it is fixed" systemctl start timewait_exporter.service
}

# reads_socket FILE [SETPRIV_OPTION ...]: as root, or with these options.
reads_socket() {
    setpriv "${@:2}" curl --silent --fail --max-time 5 --output /dev/null --unix-socket "$1" \
        http://localhost/metrics
}

check_unix_socket() {
    local socket=/run/timewait_exporter/exporter.sock
    echo "TIMEWAIT_EXPORTER_WEB_LISTEN_ADDRESS=unix:$socket" >>"$environment"
    check "the service starts with a Unix socket of its own" systemctl restart timewait_exporter.service
    check "root can read it" reads_socket "$socket"
    check "others cannot" not reads_socket "$socket" --reuid=65534 --regid=65534 --clear-groups
    check "the service has no privileges with it" is_unprivileged
    sed -i '$d' "$environment"
    check "the service starts without it again" systemctl restart timewait_exporter.service
    check "the socket is removed with its service" absent "$socket"
}

# As in deploy/systemd/README.md: files that only root can read.
check_web_config() {
    local web=/etc/timewait_exporter/web
    mkdir -m 700 "$web"
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost \
        -addext subjectAltName=DNS:localhost -keyout "$web/server.key" -out "$web/server.pem" 2>/dev/null
    printf 'tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n' >"$web/web.yml"
    chmod 600 "$web"/*
    mkdir -p "$drop_ins"
    sed -n '/^# .*web\.conf$/,/^```$/p' deploy/systemd/README.md | grep -v '```' >"$drop_ins/web.conf"
    check "the service starts with the drop-in for a web configuration" reload
    check "with it, a scrape over TLS is answered" curl --silent --fail --max-time 5 --output /dev/null \
        --cacert "$web/server.pem" https://localhost:10072/metrics
    check "with it, the service has no privileges" is_unprivileged
    rm -r "$drop_ins/web.conf" "$web"
    systemctl daemon-reload
}

sees_namespace() {
    scrape | grep -q "^timewait_sockets{.*netns=\"$1\""
}

sees_namespace_of() {
    local inode
    inode=$(stat --dereference --format %i "/proc/$1/ns/net")
    [ "$inode" != "$(stat --dereference --format %i /proc/self/ns/net)" ] && sees_namespace "$inode"
}

check_namespaces() {
    mkdir -p "$drop_ins"
    ln -s "$drop_in" "$drop_ins/namespaces.conf"
    ip netns add before-the-service
    check "the service starts with the drop-in for namespaces" reload
    check "with it, it has the two capabilities and no others" may_enter_namespaces
    check "with it, a scrape is complete" eventually scrape_is_whole
    check "with it, the exposure is at most 2.6" exposure_is_at_most 26
    ip netns add after-the-service
    if timewait_exporter --help | grep -q -- --collector.netns; then
        check "it sees a namespace" eventually sees_namespace before-the-service
        check "it sees a namespace that was made while it runs" eventually sees_namespace after-the-service
    fi
    unshare --net setpriv --reuid=1234 --regid=1234 --clear-groups --no-new-privs sleep 60 &
    check "it sees the namespace of another user's process" eventually sees_namespace_of $!
    kill $!
    ip netns delete before-the-service
    ip netns delete after-the-service
    rm "$drop_ins/namespaces.conf"
    systemctl daemon-reload
}

check_connect_failures() {
    mkdir -p "$drop_ins"
    ln -s "$failures_drop_in" "$drop_ins/connect-failures.conf"
    mountpoint -q /sys/kernel/tracing || mount -t tracefs tracefs /sys/kernel/tracing || true
    check "the service starts with the drop-in for failed connect() calls" reload
    check "with it, it has CAP_PERFMON and no other capability" may_count_failures
    check "with it, failed connect() calls are counted" eventually counts_failures
    check "with it, the exposure is at most 1.6" exposure_is_at_most 16
    rm "$drop_ins/connect-failures.conf"
    systemctl daemon-reload
}

check_socket() {
    check "the service stops gracefully" ended_in_good_order
    echo 'TIMEWAIT_EXPORTER_WEB_SYSTEMD_SOCKET=true' >>"$environment"
    check "the socket unit starts" systemctl start timewait_exporter.socket
    check "it does not start the service yet" not systemctl --quiet is-active timewait_exporter.service
    check "a connection starts the service, and is answered" scrape_is_whole
    check "over IPv6 too" curl --silent --fail --max-time 5 --output /dev/null 'http://[::1]:10072/metrics'
    check "the service runs on the socket" reported_ready
    sed -i '$d' "$environment"
    systemctl stop timewait_exporter.socket timewait_exporter.service
    check "the service starts without the socket again" systemctl start timewait_exporter.service
}

# As in deploy/systemd/README.md.
check_socket_for_a_group() {
    local drop_in_of_socket=/etc/systemd/system/timewait_exporter.socket.d socket=/run/timewait_exporter.sock
    getent group prometheus >/dev/null || groupadd --system prometheus
    mkdir -p "$drop_in_of_socket"
    sed -n '/^# .*unix\.conf$/,/^```$/p' deploy/systemd/README.md | grep -v '```' >"$drop_in_of_socket/unix.conf"
    echo 'TIMEWAIT_EXPORTER_WEB_SYSTEMD_SOCKET=true' >>"$environment"
    systemctl stop timewait_exporter.service
    systemctl daemon-reload
    check "the socket unit starts with the drop-in for a group" systemctl start timewait_exporter.socket
    check "a member of the group can read it" reads_socket "$socket" --reuid=65534 --regid=65534 --groups=prometheus
    check "another user cannot" not reads_socket "$socket" --reuid=65534 --regid=65534 --clear-groups
    check "the service restarts with it" systemctl restart timewait_exporter.service
    check "the socket stays where it is when the service is restarted" \
        reads_socket "$socket" --reuid=65534 --regid=65534 --groups=prometheus
    sed -i '$d' "$environment"
    rm -r "$drop_in_of_socket"
    systemctl stop timewait_exporter.socket timewait_exporter.service
    systemctl daemon-reload
    check "the service starts without it again" systemctl start timewait_exporter.service
}
