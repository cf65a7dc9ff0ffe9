"""Send what scripts could not: `python -m vezna.sending.send [DIRECTORY]`, with VEZNA_URL and VEZNA_TOKEN.

For machines that train without a network: copy the directory to one that has it, and send it from there.
"""

import argparse
import logging
import sys
from pathlib import Path

from vezna.errors import ClientError
from vezna.sending.buffer import Buffer, InUse
from vezna.sending.sender import Sender
from vezna.tracking import DIRECTORY


def main() -> int:
    """Send every run of a directory that has ended or goes on; exit status 1 if one did not arrive."""
    parser = argparse.ArgumentParser(prog="python -m vezna.sending.send", description=__doc__)
    parser.add_argument("directory", nargs="?", default=DIRECTORY, type=Path)
    parser.add_argument("--url", default=None, help="Where the server is; default: VEZNA_URL.")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    files = sorted(options.directory.glob("*.jsonl"))
    if not files:
        logging.error("%s has no reports. Name the directory in which the scripts kept them.", options.directory)
    arrived = [_send(file, options.url) for file in files]
    return 0 if files and all(arrived) else 1


def _send(file: Path, url: str | None) -> bool:
    try:
        buffer = Buffer(file)
        if buffer.closed or buffer.opening is None:
            buffer.close()
            return True
        return Sender(buffer, url=url, token=None, own_key=False).send_all()
    except InUse:
        logging.error("%s: a script still writes to it. It sends its reports itself.", file)
    except (ClientError, OSError) as error:
        logging.error("%s: %s", file, error)
    except Exception as error:  # the other files are sent whatever this one contains
        logging.error(
            "%s cannot be sent (%s: %s). Delete the lines that are damaged.", file, type(error).__name__, error
        )
    return False


if __name__ == "__main__":
    sys.exit(main())
