# Sourced by the test scripts beside it: counts checks, and closes with 'N passed, N failed'.

passed=0
failed=0

# check NAME COMMAND ...: passes when the command succeeds; otherwise shows its output.
check() {
    local name=$1 output
    shift
    if output=$("$@" 2>&1); then
        echo "ok   $name"
        passed=$((passed + 1))
    else
        echo "FAIL $name"
        sed 's/^/       /' <<<"$output"
        failed=$((failed + 1))
    fi
}

# Runs a script of checks and adds its counts to ours.
count() {
    local name=$1 output status closing
    shift
    output=$("$@" 2>&1)
    status=$?
    closing=$(grep -E '^[0-9]+ passed, [0-9]+ failed$' <<<"$output" | tail -1)
    # Only our own last line may look like one.
    grep -vE '^[0-9]+ passed, [0-9]+ failed$' <<<"$output"
    if [ -z "$closing" ]; then
        echo "FAIL $name: ended without a result, exit status $status"
        failed=$((failed + 1))
        return
    fi
    local good=${closing%% *} bad=${closing#*, }
    bad=${bad%% *}
    passed=$((passed + good))
    failed=$((failed + bad))
    if [ "$status" -ne 0 ] && [ "$bad" -eq 0 ]; then
        echo "FAIL $name: exit status $status"
        failed=$((failed + 1))
    fi
}

finish() {
    echo "$passed passed, $failed failed"
    [ "$failed" -eq 0 ]
}

# Retries a command for ten seconds, until it succeeds.
eventually() {
    local output
    for _ in $(seq 100); do
        output=$("$@" 2>&1) && return
        sleep 0.1
    done
    echo "$output"
    return 1
}

# succeeds_quietly COMMAND ...: with nothing on stderr.
succeeds_quietly() {
    local errors
    errors=$({ "$@" >/dev/null; } 2>&1) || {
        echo "exit status $?: $errors"
        return 1
    }
    [ -z "$errors" ] || {
        echo "$errors"
        return 1
    }
}

absent() { [ ! -e "$1" ] && [ ! -L "$1" ]; }

not() { ! "$@"; }
