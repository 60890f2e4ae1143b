# Sourced by audit.sh: asks a question, shows the output, and checks it.
# shellcheck shell=bash

json='Content-Type: application/json'
questions=0 refused=0 pending=''

# begin_audit: creates a folder for answers and asks vagrant once for the SSH configuration, because that is slow.
begin_audit() {
    answers=$(mktemp -d)
    trap 'rm -rf -- "$answers"' EXIT
    # In a file, because command lines are visible to all users.
    token=()
    if [[ -n ${TOKEN-} ]]; then
        printf 'header = "Authorization: Bearer %s"\n' "$TOKEN" >"$answers/token"
        token=(-K "$answers/token")
    fi
    vagrant ssh-config >"$answers/ssh" 2>"$answers/error" ||
        fail "vagrant ssh-config: $(<"$answers/error") Have you run vagrant up?"
}

# The machines' addresses are in the Vagrantfile.
address_of() { sed -n "s/.*\"$1\" => \"\([0-9.]*\)\".*/\1/p" "$root/Vagrantfile"; }

chapter() {
    conclude
    printf '\n== %s\n' "$*"
}

# ask QUESTION: the following verdicts answer it.
ask() {
    conclude
    pending=$1 pending_no=''
    questions=$((questions + 1))
    printf '\n%s\n' "$1"
}

# conclude: the answer to the last question, yes only if no verdict was no.
conclude() {
    [[ -n $pending ]] || return 0
    if [[ -z $pending_no ]]; then
        printf '    yes\n'
    else
        printf '    NO: %s\n' "$pending_no"
        refused=$((refused + 1))
    fi
    pending=''
}

end_audit() {
    conclude
    printf '\n%s questions, %s answered with no.\n' "$questions" "$refused"
    ((refused == 0))
}

# verdict OK [WHY]
verdict() { if [[ ${1-} != yes && -z $pending_no ]]; then pending_no=${2:-this is not as it should be}; fi; }

saw() { printf '%s\n' "$*" | sed 's/^/    | /'; }

# see WHAT COMMAND…: runs the command, shows its output, and stores it in seen.
see() {
    printf '    > %s\n' "$1"
    shift
    seen=$("$@" 2>&1 | tr -d '\r') || true
    [[ -z $seen ]] || saw "$seen"
}

# expect PATTERN: a whole line of seen matches the extended regular expression.
expect() { verdict "$(grep -qxE -- "$1" <<<"$seen" && echo yes)" "no line is like: $1"; }

# on MACHINE COMMAND…: inside a machine.
on() {
    local machine=$1
    shift
    ssh -n -F "$answers/ssh" -o LogLevel=ERROR "$machine" -- "$@"
}

# psql_on MACHINE: runs the SQL from standard input as the superuser.
psql_on() { ssh -F "$answers/ssh" -o LogLevel=ERROR "$1" -- sudo -i -u postgres psql "${@:2}"; }

# last_rows MACHINE DATABASE TABLE
last_rows() { printf '\\c %s\nTABLE %s;\n' "$2" "$3" | psql_on "$1" --no-psqlrc | tail -n 5; }

# request METHOD TARGET [BODY]: leaves status, head, body and took (seconds).
request() {
    local method=$1 target=$2 arguments=("${token[@]}")
    if (($# > 2)); then arguments+=(-H "$json" -d "$3"); fi
    : >"$answers/head"
    : >"$answers/body"
    read -r status took < <(curl -sS -m 60 -X "$method" -D "$answers/head" -o "$answers/body" \
        -w '%{http_code} %{time_total}\n' "${arguments[@]}" "$gateway$target" 2>"$answers/error") || true
    head=$(tr -d '\r' <"$answers/head")
    body=$(<"$answers/body")
    printf '    > %s %s%s\n' "$method" "$gateway$target" "${3+  $3}"
    saw "$status in $took s: $(tail -c 300 <<<"$body")"
    if [[ $status == 000 ]]; then saw "$(<"$answers/error")"; fi
}

expect_status() { verdict "$([[ $status == "$1" ]] && echo yes)" "the status is not $1"; }

# expect_body PATTERN: the extended regular expression matches somewhere in the body.
expect_body() { verdict "$(grep -qE -- "$1" <<<"$body" && echo yes)" "the body is not like: $1"; }

# expect_header NAME: the header exists; shows it.
expect_header() {
    local line
    line=$(grep -i "^$1:" <<<"$head" || true)
    saw "${line:-no $1}"
    verdict "$([[ -n $line ]] && echo yes)" "there is no header $1"
}

# expect_time SECONDS: the answer came within it.
expect_time() { verdict "$([[ ${took%.*} -lt $1 ]] && echo yes)" "that took longer than $1 s"; }

# knock PLACE ADDRESS PORT open|closed: tries a connection from a machine or from the host.
knock() {
    local place=$1 address=$2 port=$3 wanted=$4 found=open
    if [[ $place == host ]]; then
        port_is_open "$address" "$port" || found=closed
    else
        on "$place" "timeout 10 bash -c 'exec 3<>/dev/tcp/$address/$port' 2>/dev/null" || found=closed
    fi
    saw "from $place to $address:$port: $found"
    verdict "$([[ $found == "$wanted" ]] && echo yes)" "$address:$port is $found for $place"
}

# orders_of USER: how many there are in the table.
orders_of() { psql_on billing-vm -At -d "$BILLING_DB_NAME" <<<"SELECT count(*) FROM orders WHERE user_id = '$1'"; }

has_orders() { [[ $(orders_of "$1") == "$2" ]]; }

# service_pid MACHINE NAME: empty when it does not run.
service_pid() { on "$1" sudo pm2 pid "$2" | tr -d '\r' | grep -E '^[1-9][0-9]*$' || true; }

has_other_pid() {
    local now
    now=$(service_pid "$1" "$2")
    [[ -n $now && $now != "$3" ]]
}

# wait_calmly SECONDS COMMAND…: wait_for with longer pauses, for commands that a slow machine needs seconds for.
wait_calmly() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@"; do
        ((SECONDS < deadline)) || return 1
        sleep 3
    done
}

# status_has PATTERN: the extended regular expression matches somewhere in /api/status.
status_has() { curl -fsS -m 15 "${token[@]}" "$gateway/api/status" 2>/dev/null | grep -qE -- "$1"; }

# is_ok PART: the pattern of a part of /api/status, or of a further service there, that works. It has further members.
is_ok() { printf '"%s":\\{[^}]*"state":"ok"' "$1"; }

# ready: everything can be used, the broker, too; without that the gateway may call itself ready thanks to its outbox.
ready() { [[ $(curl -fsS -m 15 "$gateway/ready" 2>/dev/null) == '{"status":"ready"}' ]]; }
