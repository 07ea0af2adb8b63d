"""What endpoints replied, kept on disk by the content of the question, so that no answered question is asked twice."""

from __future__ import annotations

import json
import sqlite3
import threading
from dataclasses import asdict
from pathlib import Path

from harness.api import HarnessError
from harness.judge.wording import Reply

FILE = "replies.sqlite"


class KeptReplies:
    """Replies by key, in one file, or in memory alone; several threads and processes may use it at a time."""

    def __init__(self, folder: Path | None) -> None:
        place = ":memory:" if folder is None else str(folder / FILE)
        try:
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
            self._opened = sqlite3.connect(place, timeout=60, check_same_thread=False)
            with self._opened:
                self._opened.execute("CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, reply TEXT NOT NULL)")
        except (sqlite3.Error, OSError) as error:
            raise HarnessError(
                f"{place}: got no readable file of replies ({error}), expected one that judging has written; move it "
                "away"
            ) from None
        self._lock = threading.Lock()

    def get(self, key: str) -> Reply | None:
        """Return the reply that is kept under a key."""
        with self._lock:
            row = self._opened.execute("SELECT reply FROM replies WHERE key = ?", (key,)).fetchone()
        if row is None:
            return None
        kept = json.loads(row[0])
        return Reply(text=kept["text"], finish=kept["finish"], first=tuple((t, p) for t, p in kept["first"]))

    def keep(self, key: str, reply: Reply) -> None:
        """Keep a reply; it is on disk when this returns."""
        with self._lock, self._opened:
            self._opened.execute("INSERT OR REPLACE INTO replies VALUES (?, ?)", (key, json.dumps(asdict(reply))))

    def close(self) -> None:
        """Close the file."""
        self._opened.close()
