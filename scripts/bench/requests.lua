-- The requests that wrk sends for scripts/bench.sh, and its figures in one line that a script can read.
--
--   wrk … -s requests.lua URL -- KIND [FILE]
--
-- KIND is movie (one of 100,000 by a random id), title (a search for a word of FILE), list (all movies), create (a new
-- movie) or order (a new order); for rooms, it is room-words (a search for a word of FILE), room-near (around one of the
-- places of FILE), room-filters (a provider and a range of prices) or room-create (a new room). The variable TOKEN, if it
-- is not empty, is sent as a bearer token.

local kind
local words = {}
local json = { ["Content-Type"] = "application/json" }
local threads = 0

-- Every thread draws its own numbers.
function setup(thread)
    threads = threads + 1
    thread:set("seed", threads)
end

function init(args)
    kind = args[1] or error("which kind of request?")
    math.randomseed(os.time() * 10 + seed)
    local token = os.getenv("TOKEN")
    if token and token ~= "" then
        json["Authorization"] = "Bearer " .. token
        wrk.headers["Authorization"] = json["Authorization"]
    end
    if args[2] then
        for word in io.lines(args[2]) do
            words[#words + 1] = word
        end
    end
end

-- The rooms are around a hundred places, a thousand around each.
local function room_request()
    if kind == "room-words" then
        return wrk.format("GET", "/room?limit=20&q=" .. words[math.random(#words)])
    elseif kind == "room-near" then
        return wrk.format("GET", "/room?limit=20&within_km=5&near=" .. words[math.random(#words)])
    elseif kind == "room-filters" then
        local price = math.random(10, 180)
        return wrk.format("GET", "/room?limit=20&provider=provider" .. math.random(0, 49) .. "&price_from=" .. price ..
            "&price_to=" .. price + 20)
    end
    local number = math.random(1, 2000000000)
    local description = {}
    for place = 1, 20 do
        description[place] = words[math.random(#words)]
    end
    return wrk.format("POST", "/room", json, '{"name": "Zimmer ' .. number .. '", "description": "' ..
        table.concat(description, " ") .. '", "url": "http://new.example/' .. number .. '-' .. seed ..
        '", "provider": "new", "price": 50, "monthly_price": 900, "recurrency": "daily", "property_size": "20", ' ..
        string.format('"coordinates": {"lat": %.6f, "lon": %.6f}, ', 40 + math.random() * 12, math.random() * 27) ..
        '"images": [{"url": "http://images.example/1.jpg"}]}')
end

function request()
    if kind:sub(1, 5) == "room-" then
        return room_request()
    end
    if kind == "movie" then
        return wrk.format("GET", "/api/movies/" .. math.random(1, 100000))
    elseif kind == "title" then
        return wrk.format("GET", "/api/movies?title=" .. words[math.random(#words)])
    elseif kind == "list" then
        return wrk.format("GET", "/api/movies")
    elseif kind == "create" then
        local title = "New movie " .. math.random(1, 2000000000)
        return wrk.format("POST", "/api/movies", json, '{"title": "' .. title .. '", "description": "of the benchmark"}')
    end
    local body = '{"user_id": "' .. math.random(1, 1000000) .. '", "number_of_items": "5", "total_amount": "180.50"}'
    return wrk.format("POST", "/api/billing", json, body)
end

-- Requests per second, 99th percentile in milliseconds, bytes per second, answers, and failures of every kind.
function done(summary, latency)
    local seconds = summary.duration / 1e6
    local errors = summary.errors
    local failures = errors.connect + errors.read + errors.write + errors.status + errors.timeout
    io.write(string.format("RESULT %.1f %.3f %.0f %d %d\n", summary.requests / seconds, latency:percentile(99) / 1000,
        summary.bytes / seconds, summary.requests, failures))
end
