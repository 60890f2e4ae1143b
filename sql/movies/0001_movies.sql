-- The movies and the index that serves the search in their titles.

CREATE EXTENSION IF NOT EXISTS pg_trgm;

CREATE TABLE movies (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    title text NOT NULL CHECK (char_length(title) BETWEEN 1 AND 255),
    description text NOT NULL DEFAULT '' CHECK (char_length(description) <= 10000)
);

-- Trigrams serve ILIKE '%text%'. Without the pending list an insert costs a little more, and no search ever has to
-- read what earlier inserts left undone.
CREATE INDEX movies_title_trigrams ON movies USING gin (title gin_trgm_ops) WITH (fastupdate = off);
