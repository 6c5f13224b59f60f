"""The first shape: records, replays, search words, the ledger and its tree."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

SEQUENCE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create everything."""
    op.create_table(
        "calls",
        sa.Column("principal", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("body_digest", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("principal", "request_id", name=op.f("pk_calls")),
    )
    op.create_table(
        "checkpoints",
        sa.Column("tree_size", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("envelope", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("tree_size", name=op.f("pk_checkpoints")),
    )
    op.create_table(
        "facts",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_facts")),
    )
    op.create_table(
        "ledger_entries",
        sa.Column("position", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("leaf", sa.LargeBinary(), nullable=False),
        sa.Column("salt", sa.LargeBinary(), nullable=True),
        sa.Column("entry", sa.LargeBinary(), nullable=True),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("resource", sa.Text(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("position", name=op.f("pk_ledger_entries")),
    )
    op.create_index(op.f("ix_ledger_entries_resource"), "ledger_entries", ["resource"], unique=False)
    op.create_table(
        "ledger_nodes",
        sa.Column("level", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("position", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("level", "position", name=op.f("pk_ledger_nodes")),
    )
    op.create_table(
        "parties",
        sa.Column("seq", SEQUENCE, autoincrement=True, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("updated", sa.BigInteger(), nullable=False),
        sa.Column("party", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("issuer", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_parties")),
        sa.UniqueConstraint("issuer", name=op.f("uq_parties_issuer")),
        sa.UniqueConstraint("name", name=op.f("uq_parties_name")),
        sa.UniqueConstraint("party", name=op.f("uq_parties_party")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "requests",
        sa.Column("seq", SEQUENCE, autoincrement=True, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("updated", sa.BigInteger(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("consumer", sa.Text(), nullable=False),
        sa.Column("requester", sa.Text(), nullable=False),
        sa.Column("dataset", sa.Text(), nullable=False),
        sa.Column("contract", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_requests")),
        sa.UniqueConstraint("name", name=op.f("uq_requests_name")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_requests_consumer"), "requests", ["consumer"], unique=False)
    op.create_index(op.f("ix_requests_dataset"), "requests", ["dataset"], unique=False)
    op.create_index(op.f("ix_requests_provider"), "requests", ["provider"], unique=False)
    op.create_table(
        "agreements",
        sa.Column("seq", SEQUENCE, autoincrement=True, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("updated", sa.BigInteger(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("consumer", sa.Text(), nullable=False),
        sa.Column("dataset", sa.Text(), nullable=False),
        sa.Column("contract", sa.Text(), nullable=False),
        sa.Column("request", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("gateway", sa.Text(), nullable=False),
        sa.Column("not_after", sa.BigInteger(), nullable=False),
        sa.Column("live_key", sa.Text(), nullable=True),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["request"], ["requests.name"], name=op.f("fk_agreements_request")),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_agreements")),
        sa.UniqueConstraint("live_key", name=op.f("uq_agreements_live_key")),
        sa.UniqueConstraint("name", name=op.f("uq_agreements_name")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_agreements_consumer"), "agreements", ["consumer"], unique=False)
    op.create_index(op.f("ix_agreements_dataset"), "agreements", ["dataset"], unique=False)
    op.create_index(op.f("ix_agreements_gateway"), "agreements", ["gateway"], unique=False)
    op.create_index(op.f("ix_agreements_not_after"), "agreements", ["not_after"], unique=False)
    op.create_index(op.f("ix_agreements_provider"), "agreements", ["provider"], unique=False)
    op.create_index(op.f("ix_agreements_request"), "agreements", ["request"], unique=False)
    op.create_table(
        "contracts",
        sa.Column("seq", SEQUENCE, autoincrement=True, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("updated", sa.BigInteger(), nullable=False),
        sa.Column("party", sa.Text(), nullable=False),
        sa.Column("dataset", sa.Text(), nullable=False),
        sa.Column("document_digest", sa.Text(), nullable=False),
        sa.Column("terms_digest", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["party"], ["parties.party"], name=op.f("fk_contracts_party")),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_contracts")),
        sa.UniqueConstraint("name", name=op.f("uq_contracts_name")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_contracts_dataset"), "contracts", ["dataset"], unique=False)
    op.create_index(op.f("ix_contracts_document_digest"), "contracts", ["document_digest"], unique=False)
    op.create_index(op.f("ix_contracts_party"), "contracts", ["party"], unique=False)
    op.create_index(op.f("ix_contracts_terms_digest"), "contracts", ["terms_digest"], unique=False)
    op.create_table(
        "gateways",
        sa.Column("seq", SEQUENCE, autoincrement=True, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("updated", sa.BigInteger(), nullable=False),
        sa.Column("party", sa.Text(), nullable=False),
        sa.Column("gateway", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["party"], ["parties.party"], name=op.f("fk_gateways_party")),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_gateways")),
        sa.UniqueConstraint("name", name=op.f("uq_gateways_name")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_gateways_party"), "gateways", ["party"], unique=False)
    op.create_table(
        "keys",
        sa.Column("seq", SEQUENCE, autoincrement=True, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("updated", sa.BigInteger(), nullable=False),
        sa.Column("party", sa.Text(), nullable=False),
        sa.Column("kid", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("use", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["party"], ["parties.party"], name=op.f("fk_keys_party")),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_keys")),
        sa.UniqueConstraint("name", name=op.f("uq_keys_name")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_keys_kid"), "keys", ["kid"], unique=False)
    op.create_index(op.f("ix_keys_party"), "keys", ["party"], unique=False)
    op.create_table(
        "ledger_parties",
        sa.Column("position", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("party", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["position"], ["ledger_entries.position"], name=op.f("fk_ledger_parties_position")),
        sa.PrimaryKeyConstraint("position", "party", name=op.f("pk_ledger_parties")),
    )
    op.create_index("ix_ledger_parties_party_position", "ledger_parties", ["party", "position"], unique=False)
    op.create_table(
        "principals",
        sa.Column("seq", SEQUENCE, autoincrement=True, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("updated", sa.BigInteger(), nullable=False),
        sa.Column("party", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["party"], ["parties.party"], name=op.f("fk_principals_party")),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_principals")),
        sa.UniqueConstraint("name", name=op.f("uq_principals_name")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_principals_party"), "principals", ["party"], unique=False)
    op.create_table(
        "contracts_consumers",
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["owner"], ["contracts.name"], name=op.f("fk_contracts_consumers_owner"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("owner", "value", name=op.f("pk_contracts_consumers")),
    )
    op.create_index(op.f("ix_contracts_consumers_value"), "contracts_consumers", ["value"], unique=False)
    op.create_table(
        "datasets",
        sa.Column("seq", SEQUENCE, autoincrement=True, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("updated", sa.BigInteger(), nullable=False),
        sa.Column("party", sa.Text(), nullable=False),
        sa.Column("dataset", sa.Text(), nullable=False),
        sa.Column("contract", sa.Text(), nullable=False),
        sa.Column("sharing_class", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["contract"], ["contracts.name"], name=op.f("fk_datasets_contract")),
        sa.ForeignKeyConstraint(["party"], ["parties.party"], name=op.f("fk_datasets_party")),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_datasets")),
        sa.UniqueConstraint("name", name=op.f("uq_datasets_name")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_datasets_party"), "datasets", ["party"], unique=False)
    op.create_table(
        "transfers",
        sa.Column("seq", SEQUENCE, autoincrement=True, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("updated", sa.BigInteger(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("consumer", sa.Text(), nullable=False),
        sa.Column("agreement", sa.Text(), nullable=False),
        sa.Column("gateway", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("resumes", sa.Text(), nullable=False),
        sa.Column("grant_expires", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["agreement"], ["agreements.name"], name=op.f("fk_transfers_agreement")),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_transfers")),
        sa.UniqueConstraint("name", name=op.f("uq_transfers_name")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_transfers_agreement_state", "transfers", ["agreement", "state", "grant_expires"], unique=False)
    op.create_index(op.f("ix_transfers_consumer"), "transfers", ["consumer"], unique=False)
    op.create_index(op.f("ix_transfers_gateway"), "transfers", ["gateway"], unique=False)
    op.create_index(op.f("ix_transfers_provider"), "transfers", ["provider"], unique=False)
    op.create_index(op.f("ix_transfers_resumes"), "transfers", ["resumes"], unique=False)
    op.create_table(
        "dataset_words",
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("purposes", sa.Text(), nullable=False),
        sa.Column("fields", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["owner"], ["datasets.name"], name=op.f("fk_dataset_words_owner"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("owner", name=op.f("pk_dataset_words")),
    )
    op.create_table(
        "datasets_consumers",
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["owner"], ["datasets.name"], name=op.f("fk_datasets_consumers_owner"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("owner", "value", name=op.f("pk_datasets_consumers")),
    )
    op.create_index(op.f("ix_datasets_consumers_value"), "datasets_consumers", ["value"], unique=False)

    if op.get_bind().dialect.name == "sqlite":
        # Substrings of three characters and more; the text comes folded, so case is compared as it is.
        op.execute(
            "CREATE VIRTUAL TABLE dataset_fts USING fts5(owner UNINDEXED, text, tokenize='trigram case_sensitive 1')"
        )
