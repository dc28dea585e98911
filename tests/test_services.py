"""Are the servers that the tests start the real, durable, separate things the tests rely on?"""

import psycopg
import redis

from tests.services import RedisServer


def test_postgres_is_durable_and_each_test_has_a_database_of_its_own(postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as connection:
        settings = [connection.execute(f"SHOW {name}").fetchone() for name in ("fsync", "synchronous_commit")]
        assert settings == [("on",), ("on",)]
        connection.execute("CREATE TABLE only_here (x int)")


def test_a_table_made_by_another_test_is_not_there(postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as connection:
        assert connection.execute("SELECT to_regclass('only_here')").fetchone() == (None,)


def test_redis_is_empty_and_can_be_taken_away_and_brought_back(redis_url: str, redis_server: RedisServer) -> None:
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0
        client.set("a", 1)
        redis_server.stop()
        redis_server.start()
        assert redis_server.url == redis_url
        assert client.ping()


def test_the_database_of_a_run_is_the_one_its_environment_names(database_url: str) -> None:
    assert database_url.startswith(("sqlite:///", "postgresql://"))
