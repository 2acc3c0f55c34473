"""The plugin object, and what all its entries may use."""

import asyncio
from typing import Any

from nylon import NylonPlugin

plugin = NylonPlugin()

initialized: dict[str, Any] = {"times": 0}


@plugin.initialize
async def initialize(config: Any) -> None:
    await asyncio.sleep(0)
    initialized["times"] += 1
    initialized["config"] = config
