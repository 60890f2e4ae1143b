# Sourced by bench.sh: examples/rooms with 100,000 rooms.
# shellcheck shell=bash

rooms=100000

row_rooms() {
    prepare_rooms
    start_embedded
    start_service rooms-app is_ready "$ROOMS_PORT"
    stop api-gateway
    start_gateway
    fill_rooms
    local connections=8
    load "$gateway" room-words "$work/words"
    budget_at_most "rooms, words that a few hundred have, 99th percentile" "$p99" 20 ms
    load "$gateway" room-near "$work/places"
    budget_at_most "rooms, within 5 km, 99th percentile" "$p99" 20 ms
    load "$gateway" room-filters
    budget_at_most "rooms, provider and price, 99th percentile" "$p99" 20 ms
    connections=32
    load "$gateway" room-create "$work/words"
    budget_share "rooms, POST one, its event published beside" "$rate" 0.15
    stop api-gateway rooms-app
    stop_broker
}

prepare_rooms() {
    ROOMS_PORT=$(free_port) ROOMS_DB_PORT=$postgres_port
    GATEWAY_SERVICES=rooms=/room ROOMS_URL=http://127.0.0.1:$ROOMS_PORT
    ROOMS_DB_HOST=127.0.0.1 ROOMS_DB_NAME=rooms_db ROOMS_DB_USER=rooms ROOMS_DB_PASSWORD=rooms
    ROOMS_PRIVATE_PORT=0
    export GATEWAY_SERVICES ROOMS_URL ROOMS_PORT ROOMS_PRIVATE_PORT
    export ROOMS_DB_HOST ROOMS_DB_PORT ROOMS_DB_NAME ROOMS_DB_USER ROOMS_DB_PASSWORD
    make_database "$postgres_port" "$ROOMS_DB_NAME" "$ROOMS_DB_USER" "$ROOMS_DB_PASSWORD"
}

rooms_sql() { superuser "$postgres_port" -At -d "$ROOMS_DB_NAME" -c "$1"; }

# Each description has twenty words of two thousand, some of them often and most of them seldom, as in any language: the
# first is in three quarters of all rooms, number 600 in about 750, the last in about 330.
fill_rooms() {
    say "Filling in $rooms rooms."
    rooms_sql "CREATE FUNCTION word(n integer) RETURNS text LANGUAGE sql IMMUTABLE
        AS 'SELECT translate(substr(md5(''w'' || n), 1, 7), ''0123456789'', ''ghijklmnop'')'"
    rooms_sql "INSERT INTO rooms (id, name, description, url, provider, price, monthly_price, recurrency, property_size,
            coordinates, area, is_visible, images)
        SELECT gen_random_uuid(), 'Zimmer ' || n,
            (SELECT string_agg(word(floor(2000 * random() ^ 3)::integer), ' ') FROM generate_series(1, 20 + 0 * n)),
            'http://rooms.example/' || n, 'provider' || n % 50, 10 + n % 191, 300 + n % 1901,
            CASE WHEN n % 3 = 0 THEN 'monthly' ELSE 'daily' END, (10 + n % 61)::text,
            json_build_object('lat', round((40 + n % 10 * 1.3 + 0.2 * (random() - 0.5))::numeric, 6),
                'lon', round((n / 10 % 10 * 2.7 + 0.3 * (random() - 0.5))::numeric, 6)),
            json_build_object('name', 'Area ' || n % 500, 'city', 'City', 'country', 'Österreich'), true,
            '[{\"url\": \"http://images.example/1.jpg\"}, {\"url\": \"http://images.example/2.jpg\"}]'
        FROM generate_series(1, $rooms) AS n"
    rooms_sql "VACUUM ANALYZE rooms"
    superuser "$postgres_port" -c CHECKPOINT
    rooms_sql "SELECT word(n) FROM generate_series(600, 1999) AS n" >"$work/words"
    rooms_sql "SELECT 40 + y * 1.3 || ',' || x * 2.7 FROM generate_series(0, 9) AS x, generate_series(0, 9) AS y" \
        >"$work/places"
}
