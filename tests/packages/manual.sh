# Sourced by the tests of the packages, on a separate machine: the program started by hand, its manual and the shells'
# completions.

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

# bash_completes EXPECTED WORD ...: the last one is being typed.
bash_completes() {
    bash -c '. /usr/share/bash-completion/completions/timewait_exporter
        expected=$1
        COMP_WORDS=(timewait_exporter "${@:2}") COMP_CWORD=$(($# - 1))
        # compopt works only for a line that is being typed.
        compopt() { :; }
        _timewait_exporter timewait_exporter "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
        echo "${COMPREPLY[*]}"
        [ "${COMPREPLY[*]}" = "$expected" ]' bash "$@"
}

# fish_completes EXPECTED LINE
fish_completes() {
    local offered
    offered=$(fish --command "complete --do-complete '$2'" | cut -f1 | sort | xargs)
    echo "$offered"
    [ "$offered" = "$1" ]
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

# Sets all values that are shown as defaults and examples.
examples_are_taken() {
    (
        set -a
        # A value with spaces needs quotes for a shell, but not for systemd.
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
    check "man shows those of healthcheck" man_shows timewait_exporter-healthcheck --web.config.file
    local page
    for page in timewait_exporter timewait_exporter-{check,report}; do
        check "$page(1) shows how collectors are switched off" man_shows "$page" '--no-collector\.NAME'
    done
    check "groff reports no error in any page" pages_are_in_order
    check "bash completes a flag" bash_completes --web.listen-address --web.listen-a
    check "fish completes a flag" fish_completes --web.listen-address "timewait_exporter --web.listen-a"
    check "bash offers the choices of namespaces" bash_completes "self named all" --collector.netns ""
    check "fish offers them, too" fish_completes "all named self" "timewait_exporter --collector.netns "
    check "bash offers no files as a number" bash_completes "" --collector.top ""
    check "nor does fish" fish_completes "" "timewait_exporter --collector.top "
    check "zsh can read its completions" zsh_reads "$1"
    check "every flag has its variable in the environment file" has_every_variable
    check "the values shown in it are accepted" examples_are_taken
}
