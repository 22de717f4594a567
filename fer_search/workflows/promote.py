"""Put a model into use: `champion` moves to a version, `previous` remembers the last one."""

from __future__ import annotations

from fer_search.config import PromotionConfig
from fer_search.progress import say
from fer_search.tracking import registry, store
from fer_search.tracking.runs import LoggedRun


def promote(config: PromotionConfig) -> None:
    """Make a version the champion.

    Raises:
        StoreError: If the registry has no such model or version.
    """
    client = store.connect()
    version = None if config.version == "challenger" else str(config.version)
    name = config.registered_model
    reason = f"promoted by hand as {config.version}"
    champion, before = registry.promote(client, name, version, reason)
    if store.is_launched():
        run = LoggedRun(client, store.begin_run(client, "promote", {}))
        run.set_tags({"fer.command": "promote", "promotion": f"{name} version {champion.version}"})
        run.end("FINISHED")
    say(f"{name} version {champion.version} is now the champion: models:/{name}@champion")
    if before:
        say(f"Version {before.version} was the champion; it is models:/{name}@previous now.")
