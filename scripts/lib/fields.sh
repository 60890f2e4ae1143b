# Sourced by new-service.sh: what a field such as title:text:required is in Rust, SQL and JSON.
# shellcheck shell=bash

# Filled by read_fields, with a line for each field: the parts of the templates.
rust_fields='' sql_columns='' sql_indexes='' json_members=''
# The name of the first field, and whether a field needs the index of searches.
first_field='' is_searched=no

field_types='text, url, uuid, integer, decimal, boolean, date, timestamp, word=one,two'
field_marks='required, unique, searchable, filterable, sortable'

# read_fields TABLE FIELD…: checks all fields, then fills the variables above.
read_fields() {
    local table=$1 field seen=' id '
    shift
    for field; do
        read_field "$field"
        [[ $seen != *" $name "* ]] || fail "there are two fields $name"
        seen+="$name "
        add_field
    done
    rust_fields=${rust_fields%$'\n'} sql_columns=${sql_columns%$',\n'} json_members=${json_members%$',\n'}
}

# read_field FIELD: sets name, type, words and marks.
read_field() {
    local parts part
    IFS=: read -r -a parts <<<"$1"
    name=${parts[0]-} type=${parts[1]-text} words='' marks=' '
    [[ $1 != *$'\n'* && $name =~ ^[a-z][a-z0-9_]{0,39}$ ]] ||
        fail "'$1' does not begin with a name of small letters, digits and underscores, such as title:text"
    # Lists have query parameters with these names.
    [[ ! $name =~ ^(limit|after|offset|sort)$|^after_|_(from|to)$ ]] ||
        fail "a field cannot be called $name, since lists use such names for their query parameters"
    if [[ $type == word=* ]]; then
        words=${type#*=} type=word
        [[ $words =~ ^[a-z0-9_-]+(,[a-z0-9_-]+)*$ ]] ||
            fail "$name: write the words with commas between them, such as $name:word=open,done"
    fi
    [[ $type =~ ^(text|url|uuid|integer|decimal|boolean|date|timestamp)$ || -n $words ]] ||
        fail "$name: there is no type '$type'; the types are $field_types"
    for part in "${parts[@]:2}"; do
        [[ $part =~ ^(required|unique|searchable|filterable|sortable)$ ]] ||
            fail "$name: there is no mark '$part'; the marks are $field_marks"
        [[ $marks == *" $part "* ]] || marks+="$part "
    done
    if is searchable; then
        [[ $type =~ ^(text|url)$ ]] || fail "$name: only text and url can be searchable"
        ! is filterable || fail "$name: a field is either searchable or filterable"
    fi
    ((${#table} + ${#name} <= 56)) || fail "the name $name is too long: with that of the table, it has more than 56 letters"
    # PostgreSQL has columns of its own in every table.
    [[ ! $name =~ ^(tableoid|ctid|[cx]m(in|ax))$ ]] || fail "a field cannot be called $name, since PostgreSQL has a column of that name"
    if is unique || is sortable; then is required || fail "$name: unique and sortable fields must be required, too"; fi
}

is() { [[ $marks == *" $1 "* ]]; }

# add_field: appends the field to the parts. A text, a boolean and a word that are not required have a default; all
# others may be null.
add_field() {
    local rust sql check='' example default='' rest=' NOT NULL' mark
    case $type in
        text)
            if is required; then
                rust="Field::text(\"$name\").length(1..=255).trimmed()"
                check=" CHECK (char_length(\"$name\") BETWEEN 1 AND 255)"
            elif is filterable; then
                # An entry of its index has at most 2,704 bytes.
                rust="Field::text(\"$name\").length(0..=255)"
                check=" CHECK (char_length(\"$name\") <= 255)" default='""'
            else
                rust="Field::text(\"$name\").length(0..=10_000)"
                check=" CHECK (char_length(\"$name\") <= 10000)" default='""'
            fi
            sql=text example="\"a $name\""
            ;;
        url) rust="Field::url(\"$name\")" sql=text example="\"https://example.org/$name\"" ;;
        uuid) rust="Field::uuid(\"$name\")" sql=uuid example='"6f0d2a4e-3c1b-4b5a-9c8d-7e6f5a4b3c2d"' ;;
        integer) rust="Field::integer(\"$name\")" sql=bigint example=7 ;;
        decimal) rust="Field::decimal(\"$name\", 12, 2)" sql='numeric(12, 2)' example=12.5 ;;
        boolean) rust="Field::boolean(\"$name\")" sql=boolean example=true default='"false"' ;;
        date) rust="Field::date(\"$name\")" sql=date example='"2024-02-29"' ;;
        timestamp) rust="Field::timestamp(\"$name\")" sql=timestamptz example='"2024-02-29T12:30:00.000000Z"' ;;
        word)
            rust="Field::word(\"$name\", &[\"${words//,/\", \"}\"])"
            sql=text example="\"${words##*,}\"" default="\"${words%%,*}\""
            check=" CHECK (\"$name\" IN ('${words//,/\', \'}'))"
            ;;
    esac
    if is required; then
        rust+='.required()'
    elif [[ -n $default ]]; then
        rust+=".default($default)"
    else
        rest=''
    fi
    for mark in unique searchable filterable sortable; do
        if is "$mark"; then rust+=".$mark()"; fi
    done
    if is unique; then rest+=' UNIQUE'; fi
    rust_fields+="            $rust,"$'\n'
    sql_columns+="    \"$name\" $sql$rest$check,"$'\n'
    json_members+="        \"$name\": $example,"$'\n'
    first_field=${first_field:-$name}
    if is searchable; then
        is_searched=yes
        sql_indexes+="CREATE INDEX ON \"$table\" USING gin (\"$name\" gin_trgm_ops);"$'\n'
    elif is filterable || is sortable; then
        sql_indexes+="CREATE INDEX ON \"$table\" (\"$name\", id);"$'\n'
    fi
}
