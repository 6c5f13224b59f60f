"""A stock Arrow Flight client: `python stock.py ADDRESS TICKET CA OUT`, nothing but pyarrow.

Reads every endpoint of the ticket and leaves in the folder OUT: `data.arrow`, `wire.bin` with every
byte that came (flight info, messages, buffers) and `told.json` with what the gateway told.
"""

import json
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.flight as fl


def main(address: str, ticket: Path, ca: Path, out: Path) -> None:
    with fl.FlightClient(address, tls_root_certs=ca.read_bytes()) as client:
        info = client.get_flight_info(fl.FlightDescriptor.for_command(ticket.read_bytes()))
        parts = []
        with (out / "wire.bin").open("wb") as wire, pa.ipc.new_file(str(out / "data.arrow"), info.schema) as data:
            wire.write(info.serialize())
            for endpoint in info.endpoints:
                rows = 0
                for chunk in client.do_get(endpoint.ticket):
                    batch = chunk.data
                    rows += batch.num_rows
                    data.write_batch(batch)
                    wire.write(batch.serialize())
                    for column in batch.columns:
                        for buffer in column.buffers():
                            wire.write(buffer if buffer is not None else b"")
                parts.append(rows)
    told = json.loads(info.app_metadata)
    (out / "told.json").write_text(json.dumps({"parts": parts, "totalRecords": info.total_records, **told}))


if __name__ == "__main__":
    main(sys.argv[1], *map(Path, sys.argv[2:]))
