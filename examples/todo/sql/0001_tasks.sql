-- Tasks that are to be done.

CREATE EXTENSION IF NOT EXISTS pg_trgm;

CREATE TABLE tasks (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    description text NOT NULL UNIQUE CHECK (char_length(description) BETWEEN 1 AND 500),
    status text NOT NULL CHECK (status IN ('active', 'waiting', 'done'))
);

-- For ?description= and ?status=.
CREATE INDEX tasks_description_trgm ON tasks USING gin (description gin_trgm_ops);
CREATE INDEX tasks_status ON tasks (status, id);
