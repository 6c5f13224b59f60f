"""The tables of a gateway's state."""

from __future__ import annotations

SCHEMA_VERSION = 2

TABLES = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS salts (
    agreement_digest TEXT PRIMARY KEY, salt BLOB, created INTEGER NOT NULL, erased INTEGER) STRICT;
CREATE TABLE IF NOT EXISTS agreements (agreement_digest TEXT PRIMARY KEY, agreement TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS releases (
    release TEXT PRIMARY KEY, agreement_digest TEXT NOT NULL, made INTEGER NOT NULL, removed INTEGER) STRICT;
CREATE TABLE IF NOT EXISTS intervals (
    consumer TEXT NOT NULL, dataset TEXT NOT NULL, agreement_digest TEXT NOT NULL, purpose TEXT NOT NULL,
    alone INTEGER NOT NULL, release TEXT NOT NULL, content_digest TEXT NOT NULL, until INTEGER NOT NULL,
    PRIMARY KEY (consumer, dataset, purpose)) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS lots (
    consumer TEXT NOT NULL, dataset TEXT NOT NULL, agreement_digest TEXT NOT NULL, until INTEGER NOT NULL,
    PRIMARY KEY (consumer, dataset, agreement_digest)) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sent (
    consumer TEXT NOT NULL, dataset TEXT NOT NULL, definition TEXT NOT NULL, release TEXT NOT NULL,
    record TEXT NOT NULL, until INTEGER NOT NULL,
    PRIMARY KEY (consumer, dataset, definition)) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS refused (
    consumer TEXT NOT NULL, dataset TEXT NOT NULL, making TEXT NOT NULL, source TEXT NOT NULL, reason TEXT NOT NULL,
    message TEXT NOT NULL, metadata TEXT NOT NULL, until INTEGER NOT NULL,
    PRIMARY KEY (consumer, dataset, making)) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS transfers (
    transfer TEXT PRIMARY KEY, grant_id TEXT NOT NULL UNIQUE, agreement TEXT NOT NULL, consumer TEXT NOT NULL,
    release TEXT, resumed INTEGER NOT NULL, expires INTEGER NOT NULL,
    intent BLOB, intent_reported INTEGER NOT NULL DEFAULT 0, draft BLOB, receipt BLOB, refusal TEXT) STRICT;
CREATE INDEX IF NOT EXISTS transfers_open ON transfers (transfer) WHERE receipt IS NULL AND refusal IS NULL;
CREATE TABLE IF NOT EXISTS parts (
    grant_id TEXT NOT NULL, part INTEGER NOT NULL, release TEXT NOT NULL, claimed INTEGER NOT NULL, sent INTEGER,
    PRIMARY KEY (grant_id, part)) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS parts_release ON parts (release);
CREATE TABLE IF NOT EXISTS unproved (
    id INTEGER PRIMARY KEY, transfer TEXT NOT NULL, kind TEXT NOT NULL, mark TEXT NOT NULL,
    delivered INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT, transfer TEXT NOT NULL, kind TEXT NOT NULL, body BLOB NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0, rejected TEXT) STRICT;
CREATE TABLE IF NOT EXISTS suspensions (
    agreement TEXT PRIMARY KEY, envelope BLOB NOT NULL, at INTEGER NOT NULL, until INTEGER,
    lifted INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS reveals (
    order_digest TEXT PRIMARY KEY, envelope BLOB NOT NULL, stated TEXT NOT NULL, told INTEGER NOT NULL DEFAULT 0,
    opened INTEGER) STRICT;
CREATE TABLE IF NOT EXISTS papers (
    digest TEXT PRIMARY KEY, kind TEXT NOT NULL, envelope BLOB NOT NULL) STRICT;
"""

# What makes a state of one version a state of the next. 1: an interval was a consumer's and a dataset's, whatever the
# purpose; those that run stay so (no purpose), and so do the figures that were kept for them. What was refused is
# looked at once more.
STEPS = {
    1: """
CREATE TABLE intervals_2 (
    consumer TEXT NOT NULL, dataset TEXT NOT NULL, agreement_digest TEXT NOT NULL, purpose TEXT NOT NULL,
    alone INTEGER NOT NULL, release TEXT NOT NULL, content_digest TEXT NOT NULL, until INTEGER NOT NULL,
    PRIMARY KEY (consumer, dataset, purpose)) STRICT, WITHOUT ROWID;
INSERT INTO intervals_2
    SELECT consumer, dataset, agreement_digest, '', 0, release, content_digest, until FROM intervals;
DROP TABLE intervals;
ALTER TABLE intervals_2 RENAME TO intervals;
CREATE TABLE aggregates_2 (
    consumer TEXT NOT NULL, dataset TEXT NOT NULL, purpose TEXT NOT NULL, release TEXT NOT NULL, plan TEXT NOT NULL,
    made INTEGER NOT NULL, figures BLOB NOT NULL, PRIMARY KEY (consumer, dataset, purpose)) STRICT, WITHOUT ROWID;
INSERT INTO aggregates_2 SELECT consumer, dataset, '', release, plan, made, figures FROM aggregates;
DROP TABLE aggregates;
ALTER TABLE aggregates_2 RENAME TO aggregates;
DROP TABLE refused;
"""
}
