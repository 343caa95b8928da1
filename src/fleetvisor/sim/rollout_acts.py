"""What the operators of a world of rollouts do, by chance: everything that the API lets them.

Each act is one or few requests. What is refused for a good reason is part of the game, and so is an answer that never
comes: the act may have been done or not.
"""

from datetime import UTC, datetime
from random import Random
from typing import Any, Final, Protocol

from fleetvisor.sim.loop import VirtualClock
from fleetvisor.sim.operator import Firmware, Operator, Refused
from fleetvisor.sim.puppet import Puppet
from fleetvisor.sim.rollout_checks import Direct, Ledger

_ACTS: Final = {
    "start": 9, "action": 13, "rollback": 3, "pace": 3, "target": 5, "cancel": 3, "clear": 1, "upload": 2, "delete": 2,
    "add": 3, "remove": 2, "access": 3, "label": 2, "lift": 1, "plan": 2, "draft": 1,
    "forget": 2,
}  # fmt: skip
_ACTIONS: Final = ("pause", "resume", "resume", "abort", "retry", "retry", "release", "release", "start")
_WAVES: Final = ("100%", "10%,50%,100%", "1%,10%,50%,100%", "1,3,100%", "2,50%,100%", "30%,60%")
_DEVICES_MAX: Final = 24


class Stage(Protocol):
    """What the operators of a world find there."""

    clock: VirtualClock
    chance: Random
    operator: Operator
    puppets: dict[str, Puppet]
    ledger: Ledger

    def note(self, text: str) -> None:
        """Write down what happened."""
        ...

    async def add_device(self, running: str | None) -> None:
        """Register a device and switch it on. Raises ``Lost``, ``Refused``."""
        ...


async def begin(world: Stage, devices: int) -> None:
    """Make the fleet: most of it runs a first app already."""
    first = await world.operator.upload("v1")
    await world.operator.upload("v2")
    for _ in range(devices):
        await world.add_device(first.manifest if world.chance.random() < 0.8 else None)


async def act_once(world: Stage) -> None:
    """Do one thing. Raises ``Refused``, ``Lost``."""
    chance = world.chance
    act = chance.choices(list(_ACTS), list(_ACTS.values()))[0] if world.operator.available else "upload"
    present = [sid for sid, puppet in world.puppets.items() if not puppet.removed]
    sid = chance.choice(present)
    device = f"/v1/Devices/{sid}"
    world.note(f"operator: {act} {sid if act in {'target', 'cancel', 'clear', 'remove', 'access', 'label'} else ''}")
    match act:
        case "start" | "draft":
            await _release(world, start=act == "start")
        case "rollback":
            await _roll_back(world)
        case "action":
            await _act_on(world, {"Action": chance.choice(_ACTIONS)})
        case "forget":
            await _forget(world)
        case "pace":
            await _act_on(world, {"StartsPerMinute": str(chance.choice([0, 5, 60]))})
        case "target" | "clear":
            await _target(world, sid, chance.choice(world.operator.available) if act == "target" else None)
        case "cancel":
            world.ledger.told.pop(sid, None)
            await world.operator.change(sid, CancelUpdate="true")
        case "upload":
            await world.operator.upload(f"v{world.clock.now()}")
        case "delete":
            await world.operator.delete(chance.choice(world.operator.available))
        case "add" if len(present) < _DEVICES_MAX:
            await world.add_device(None)
        case "remove" if len(present) > 3:
            world.puppets[sid].removed = True
            world.ledger.told.pop(sid, None)
            await world.operator.call("DELETE", device)
        case "access":
            await world.operator.change(sid, Access=chance.choice(["disabled", "active", "active"]))
        case "label":
            await world.operator.change(sid, Labels=f"ring={chance.randrange(3)}")
        case "lift":
            await world.operator.call("DELETE", f"{device}/Penalties/{chance.choice(world.operator.available).sid}")
        case _:
            for rollout in (await _rollouts(world))[:2]:
                await world.operator.call("GET", f"/v1/Rollouts/{rollout['sid']}/Plan")
            await world.operator.call("GET", f"{device}/Explain")


async def _release(world: Stage, *, start: bool) -> None:
    chance = world.chance
    form = {
        "App": chance.choice(world.operator.available).sid,
        "Selector": chance.choice(["*", "*", "*", "ring=1", "ring in (0,2)"]),
        "Waves": chance.choice(_WAVES),
        "Limit": chance.choice(["1%", "10%", "30%", "60%"]),
        "MinimumSample": str(chance.choice([1, 5])),
        "Soak": str(chance.choice([0, 0, 30, 120])),
        "SilentAfter": str(chance.choice([60, 300, 1800])),
        "OfflineAfter": str(chance.choice([120, 900, 7200])),
        "OnUnproven": chance.choice(["hold", "stop", "release", "release"]),
        "RequireProof": chance.choice(["false", "false", "false", "true"]),
    }
    if chance.random() < 0.3:
        # Nobody is called silent or offline, so nobody comes back: the bound is then exact.
        form |= {"MaxConcurrent": str(chance.choice([1, 3])), "FriendlyName": "bounded"}
        form |= {"SilentAfter": "86400", "OfflineAfter": "604800"}
    if chance.random() < 0.2:
        form["StartsPerMinute"] = str(chance.choice([1, 6, 30]))
    await _draft(world, form, start=start)


async def _draft(world: Stage, form: dict[str, str], *, start: bool) -> None:
    made = await world.operator.call("POST", "/v1/Rollouts", form)
    shown = " ".join(f"{name}={value}" for name, value in form.items() if value)
    world.note(f"{made['sid']}: {shown}")
    if start:
        start_at = {"StartAt": _moment(world, 90)} if world.chance.random() < 0.3 else {}
        await world.operator.call("POST", f"/v1/Rollouts/{made['sid']}", {"Action": "start", **start_at})


def _moment(world: Stage, after_s: int) -> str:
    """Return a time of day, some seconds from now, as the API takes it."""
    return f"{datetime.fromtimestamp(world.clock.now() // 1000 + after_s, UTC):%Y-%m-%dT%H:%M:%SZ}"


async def _rollouts(world: Stage) -> list[dict[str, Any]]:
    answer: dict[str, Any] = await world.operator.call("GET", "/v1/Rollouts?PageSize=100")
    return answer["rollouts"]


async def _roll_back(world: Stage) -> None:
    ended = [rollout for rollout in await _rollouts(world) if rollout["state"] != "draft"]
    if ended:
        chosen = world.chance.choice(ended)
        form = {"Kind": "rollback", "RollbackOf": chosen["sid"], "Soak": "0", "OnUnproven": "release"}
        await _draft(world, form, start=world.chance.random() < 0.8)


async def _act_on(world: Stage, form: dict[str, str]) -> None:
    every = await _rollouts(world)
    going = [rollout for rollout in every if rollout["date_ended"] is None] or every
    if going:
        chosen = world.chance.choice(going if world.chance.random() < 0.8 else every)
        world.note(f"{chosen['sid']}: {form} while {chosen['state']}")
        await world.operator.call("POST", f"/v1/Rollouts/{chosen['sid']}", form)


async def _forget(world: Stage) -> None:
    """Remove a rollout: most often one that has ended."""
    every = await _rollouts(world)
    ended = [rollout for rollout in every if rollout["date_ended"] is not None]
    chosen = world.chance.choice(ended if ended and world.chance.random() < 0.9 else every or [None])
    if chosen is not None:
        world.note(f"{chosen['sid']}: removed while {chosen['state']}")
        await world.operator.call("DELETE", f"/v1/Rollouts/{chosen['sid']}")


async def _target(world: Stage, sid: str, firmware: Firmware | None) -> None:
    since = world.clock.now()
    world.ledger.told.pop(sid, None)
    await world.operator.change(sid, TargetApp=firmware.sid if firmware else "")
    world.ledger.told[sid] = Direct(firmware.sid if firmware else None, since, world.clock.now())


async def bring_to_an_end(world: Stage) -> bool:
    """Let go on what waits for an operator, and remove drafts; return whether anything is still under way.

    Devices that nobody has, because an answer was lost, are removed; those that were shut out may come back.
    """
    busy = False
    devices: dict[str, Any] = await world.operator.call("GET", "/v1/Devices?PageSize=1000")
    for device in devices["devices"]:
        puppet = world.puppets.get(device["sid"])
        if puppet is None or puppet.removed:
            await world.operator.call("DELETE", f"/v1/Devices/{device['sid']}")
        elif device["access"] != "active":
            await world.operator.change(device["sid"], Access="active")
    for rollout in await _rollouts(world):
        path = f"/v1/Rollouts/{rollout['sid']}"
        waiting: dict[str, Any] = rollout["waits_for"] or {}
        waits_for: str | None = waiting.get("code")
        busy |= waits_for is not None
        try:
            match waits_for:
                case "start":
                    await world.operator.call("DELETE", path)
                case "resume":
                    await world.operator.call("POST", path, {"Action": "resume"})
                case "operator":
                    await world.operator.call("POST", path, {"Action": "release"})
                case "rate" | "concurrency":
                    await world.operator.call("POST", path, {"StartsPerMinute": "0", "MaxConcurrent": "0"})
                case _:
                    pass
        except Refused as refusal:
            world.note(f"refused: {refusal}")
    busy |= bool(await world.ledger.unfinished())
    return busy
