-- Serves lists in the order of their titles, from either end and from any place.
CREATE INDEX movies_title_order ON movies (title, id);
