-- The rooms, with what serves the searches: words whatever their accents, and the neighbourhood of a point.

CREATE EXTENSION IF NOT EXISTS unaccent;

-- Words without accents and in lower case; no word is left out and none is stemmed, because rooms are described in many
-- languages.
CREATE TEXT SEARCH CONFIGURATION rooms (COPY = simple);
ALTER TEXT SEARCH CONFIGURATION rooms ALTER MAPPING FOR word, hword, hword_part WITH unaccent, simple;

CREATE TABLE rooms (
    id uuid PRIMARY KEY,
    name text NOT NULL,
    description text NOT NULL,
    url text NOT NULL UNIQUE,
    provider text NOT NULL,
    price integer NOT NULL CHECK (price >= 0),
    monthly_price integer NOT NULL CHECK (monthly_price >= 0),
    recurrency text NOT NULL,
    property_size text NOT NULL,
    coordinates jsonb NOT NULL,
    area jsonb,
    is_visible boolean NOT NULL,
    images jsonb NOT NULL,
    latitude double precision NOT NULL GENERATED ALWAYS AS ((coordinates ->> 'lat')::double precision) STORED
        CONSTRAINT rooms_coordinates_check CHECK (latitude BETWEEN -90 AND 90),
    longitude double precision NOT NULL GENERATED ALWAYS AS ((coordinates ->> 'lon')::double precision) STORED
        CONSTRAINT rooms_longitude_check CHECK (longitude BETWEEN -180 AND 180),
    words tsvector NOT NULL GENERATED ALWAYS AS (to_tsvector('rooms', name || ' ' || description)) STORED
);

-- A room has dozens of words. New ones are gathered in a list that every search reads, so it is kept short (in kB).
CREATE INDEX rooms_words ON rooms USING gin (words) WITH (gin_pending_list_limit = 256);
CREATE INDEX rooms_place ON rooms (latitude, longitude);
-- With the key behind the value, a page of a filtered list is read in its order, however many rooms have the value.
CREATE INDEX rooms_price ON rooms (price, id);
CREATE INDEX rooms_provider ON rooms (provider, id);
CREATE INDEX rooms_recurrency ON rooms (recurrency, id);
CREATE INDEX rooms_area ON rooms ((area ->> 'name'), id);

-- The functions below are expressions without state, which PostgreSQL inlines: a search near a point becomes a range of
-- `rooms_place` and an exact test of what is in it. A place is text, such as '48.2,16.37'.

CREATE FUNCTION latitude_of(place text) RETURNS double precision LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$ SELECT split_part(place, ',', 1)::double precision $$;

CREATE FUNCTION longitude_of(place text) RETURNS double precision LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$ SELECT split_part(place, ',', 2)::double precision $$;

-- How far a circle reaches to the north, in degrees. The earth is taken as a sphere with a radius of 6,371 km.
CREATE FUNCTION degrees_north(km text) RETURNS double precision LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$ SELECT degrees(km::double precision / 6371) $$;

-- How far a circle reaches to the east, in degrees: all around if a pole lies in it.
CREATE FUNCTION degrees_east(place text, km text) RETURNS double precision LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$ SELECT CASE WHEN abs(latitude_of(place)) + degrees_north(km) >= 90 THEN 360
        ELSE degrees(asin(least(1, sin(km::double precision / 6371) / cos(radians(latitude_of(place)))))) END $$;

-- The distance of two points on the sphere (haversine formula).
CREATE FUNCTION km_between(
    latitude1 double precision, longitude1 double precision, latitude2 double precision, longitude2 double precision
) RETURNS double precision LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$ SELECT 12742 * asin(least(1, sqrt(
        sin(radians(latitude2 - latitude1) / 2) ^ 2
        + cos(radians(latitude1)) * cos(radians(latitude2)) * sin(radians(longitude2 - longitude1) / 2) ^ 2))) $$;

-- The second and third line of the longitudes are for circles across the antimeridian; elsewhere the planner drops them.
CREATE FUNCTION is_near(latitude double precision, longitude double precision, place text, km text)
    RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$ SELECT latitude BETWEEN latitude_of(place) - degrees_north(km) AND latitude_of(place) + degrees_north(km)
        AND (longitude BETWEEN longitude_of(place) - degrees_east(place, km)
                           AND longitude_of(place) + degrees_east(place, km)
            OR longitude_of(place) - degrees_east(place, km) < -180
                AND longitude >= longitude_of(place) - degrees_east(place, km) + 360
            OR longitude_of(place) + degrees_east(place, km) > 180
                AND longitude <= longitude_of(place) + degrees_east(place, km) - 360)
        AND km_between(latitude, longitude, latitude_of(place), longitude_of(place)) <= km::double precision $$;
