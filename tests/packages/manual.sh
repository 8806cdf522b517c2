# Sourced by the tests of the packages, on a machine of their own: the program by hand, its manual and the
# shells' completions.

# As an ordinary user, without systemd.
runs_by_hand() {
    local pid status
    setpriv --reuid=65534 --regid=65534 --clear-groups --no-new-privs \
        timewait_exporter --web.listen-address=127.0.0.1:10074 --log.level=error &
    pid=$!
    eventually scrape_is_whole 10074
    status=$?
    kill "$pid"
    wait "$pid" && return "$status"
}

check_by_hand() {
    check "the program runs when it is started by hand" runs_by_hand
}

man_shows() {
    local page
    # The package's files may be kept out of an image's disk (path-exclude); then this says so.
    page=$(MANWIDTH=100 man "$1" 2>&1) && grep -q -- "$2" <<<"$page" || {
        echo "$page"
        return 1
    }
}

pages_are_in_order() {
    local page pages=("$(dirname "$(man --path timewait_exporter)")"/timewait_exporter*)
    [ ${#pages[@]} -eq 4 ] || {
        echo "${pages[*]}"
        return 1
    }
    for page in "${pages[@]}"; do
        succeeds_quietly man --warnings --encoding=UTF-8 --local-file "$page" || return
    done
}

bash_completes() {
    bash -c '. /usr/share/bash-completion/completions/timewait_exporter
        COMP_WORDS=(timewait_exporter --web.listen-a) COMP_CWORD=1
        _timewait_exporter timewait_exporter --web.listen-a timewait_exporter
        [ "${COMPREPLY[*]}" = --web.listen-address ]'
}

fish_completes() {
    fish --command 'complete --do-complete "timewait_exporter --web.listen-a"' | grep -q '^--web.listen-address'
}

zsh_reads() { succeeds_quietly zsh -n "$1/_timewait_exporter"; }

has_every_variable() {
    local flag variable
    for flag in $(timewait_exporter --help | sed -n 's/^ \{6\}--\([a-z][a-z.-]*\).*/\1/p'); do
        [ "$flag" != version ] || continue
        variable=TIMEWAIT_EXPORTER_$(tr 'a-z.-' 'A-Z__' <<<"$flag")
        grep -q "^#$variable=" "$environment" || {
            echo "$variable is not in it"
            return 1
        }
    done
}

# The values that are shown as defaults and examples, put into force all at once.
examples_are_taken() {
    (
        set -a
        # A value with spaces needs no quotes for systemd, but for a shell.
        . <(sed -n 's/^#\(TIMEWAIT_EXPORTER_[A-Z_]*\)=\(.*\)$/\1='"'\2'"'/p' "$environment" |
            grep -v -e _WEB_CONFIG_FILE= -e _WEB_SYSTEMD_SOCKET=)
        timewait_exporter check --timeout 5 >/dev/null
        [ $? -lt 3 ]
    )
}

# check_manual DIRECTORY_OF_ZSH_COMPLETIONS
check_manual() {
    check "man shows the flags" man_shows timewait_exporter --web.listen-address
    check "man shows the flags of check" man_shows timewait_exporter-check --critical
    check "man shows those of report" man_shows timewait_exporter-report --watch
    check "groff has no complaint about any page" pages_are_in_order
    check "bash completes a flag" bash_completes
    check "fish completes a flag" fish_completes
    check "zsh can read its completions" zsh_reads "$1"
    check "every flag has its variable in the environment file" has_every_variable
    check "the values shown in it are taken" examples_are_taken
}
