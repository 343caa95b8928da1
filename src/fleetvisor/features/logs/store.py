"""The row that says until when a device may send logs."""

from fleetvisor.db.database import Tx
from fleetvisor.ground.clock import Millis
from fleetvisor.ground.sids import DeviceSid


async def switch(tx: Tx, device_sid: DeviceSid, expires: Millis | None) -> None:
    """Switch logging on until ``expires``, or off."""
    if expires is None:
        await tx.run("DELETE FROM device_logging WHERE device_sid = :device_sid", {"device_sid": device_sid})
        return
    sql = """INSERT INTO device_logging (device_sid, date_expires) VALUES (:device_sid, :expires)
        ON CONFLICT (device_sid) DO UPDATE SET date_expires = excluded.date_expires"""
    await tx.run(sql, {"device_sid": device_sid, "expires": expires})
