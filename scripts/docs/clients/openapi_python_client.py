"""Uses the platform with a client made by openapi-python-client."""

import os

from movie_platform_client import Client
from movie_platform_client.api.billing import place_order
from movie_platform_client.api.movies import change_movie, create_movie, delete_movie, get_movie, list_movies
from movie_platform_client.api.status import get_order_status
from movie_platform_client.models import Movie, MovieChanges, NewMovie, Order, Posted, Problem

client = Client(base_url=os.environ["GATEWAY_URL"])

created = create_movie.sync(client=client, body=NewMovie(title="Made by openapi-python-client"))
assert isinstance(created, Movie), created
listed = list_movies.sync(client=client, title="openapi-python-client", limit=1000)
assert isinstance(listed, list) and any(movie.id == created.id for movie in listed), listed
changed = change_movie.sync(created.id, client=client, body=MovieChanges(description="changed"))
assert isinstance(changed, Movie) and changed.description == "changed", changed
invalid = create_movie.sync(client=client, body=NewMovie(title=""))
assert isinstance(invalid, Problem) and invalid.code == "field_invalid", invalid
deleted = delete_movie.sync(created.id, client=client)
assert deleted.id == created.id, deleted
gone = get_movie.sync_detailed(created.id, client=client)
assert gone.status_code == 404 and gone.parsed.code == "movie_not_found", gone

posted = place_order.sync(client=client, body=Order(user_id="3", number_of_items=5, total_amount=180))
assert isinstance(posted, Posted), posted
state = get_order_status.sync(posted.message_id, client=client)
assert state.message_id == posted.message_id, state
print("openapi-python-client: the client works")
