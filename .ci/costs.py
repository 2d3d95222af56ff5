"""What a million calls of each endpoint cost, from the units and the prices that stand in the documents.

The units are in docs/ARCHITECTURE.md ("Calls"), and tests count them; the prices, and the table that
follows from both, are in docs/OPERATIONS.md ("Cost").
"""

import re

from emulator import FUNCTIONS, ROOT

ARCHITECTURE = (ROOT / "docs/ARCHITECTURE.md").read_text()
OPERATIONS = ROOT / "docs/OPERATIONS.md"

CHANGING = "changing, deleting in the directory"
MAKING = "making an ecosystem, an environment, a user"
# A row of the costs by its label, and the rows of the calls whose units it adds up.
ROWS = {
    "any, without a well-formed token": ["any, without a well-formed token"],
    "`create-user-token`": ["`create-user-token`"],
    "`create-server-token`": ["`create-server-token`"],
    "`introspect-token`": ["`introspect-token`"],
    "`introspect-token`, of a sliding token": ["`introspect-token`", "… of a sliding token"],
    "`authorize`": ["`authorize`"],
    "`authorize`, of a sliding token": ["`authorize`", "… of a sliding token"],
    "`list-user-tokens`": ["`list-user-tokens`"],
    "`list-server-tokens`": ["`list-server-tokens`"],
    "`revoke-user-token`, `revoke-server-token`": ["`revoke-user-token`, `revoke-server-token`"],
    "`revoke-user-tokens`": ["`revoke-user-tokens`"],
    "`revoke-token`": ["`revoke-token`"],
    "`create-ecosystem`, `create-environment`": [MAKING],
    "`delete-ecosystem`": [CHANGING],
    "`delete-environment`": ["`delete-environment` by an account"],
    "`get-user`": ["`get-user`"],
    "`put-user`, new": [MAKING],
    "`put-user`, changed": [CHANGING],
    "`put-user` with an address or a password": ["`put-user` with an address or a password"],
    "`delete-user`": [CHANGING],
    "`delete-user` of one that has either": ["`delete-user` of one that has either"],
    "`create-shortcode` for a user": ["`create-shortcode` for a user"],
    "`create-shortcode` for an environment": ["… for an environment"],
    "`consume-shortcode`": ["`consume-shortcode`"],
    "`create-email-token`": ["`create-email-token`"],
    "`update-email-token`, `delete-email-token`": ["`update-email-token`, `delete-email-token`"],
    "`get-email-token-value`": ["`get-email-token-value`"],
    "`list-email-tokens`": ["`list-email-tokens`"],
    "`log-in-with-password`": ["`log-in-with-password`"],
}
HASHES = {"`put-user` with an address or a password", "`log-in-with-password`"}
ALARMS = 5
READS = re.compile(r"(?:(\d+) (?:or|to) )?(\d+) read")
WRITES = re.compile(r"(?:(\d+) to )?(\d+) write(?: \((?:[a-z ]+ )?(\d+)\))?")
TRANSACTION = re.compile(r"and the transaction's (\d+) to (\d+)")


def section(text, heading):
    """What stands under a heading."""
    return re.search(rf"^## {heading}$(.*?)(?=^## |\Z)", text, re.M | re.S)[1]


def table(text, first):
    """The rows of the table whose first heading is this, as lists of cells."""
    lines = re.search(rf"^\| {first} \|.*\n\|[- |]+\n((?:\|.*\n)+)", text, re.M)[1]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines.splitlines()]


def units(text):
    """The least and the most that a row says, of read units and of write units."""
    read, write = READS.search(text), WRITES.search(text)
    reads = (int(read[1] or read[2]), int(read[2])) if read else (0, 0)
    writes = (0, 0)
    if write:
        least = int(write[1] or write[2])
        writes = (least, int(write[3] or write[2]))
    if more := TRANSACTION.search(text):
        writes = (writes[0] + int(more[1]), writes[1] + int(more[2]))
    if not read and not write and text != "0":
        raise ValueError(f"docs/ARCHITECTURE.md: {text!r} are no units")
    return reads, writes


def span(least, most, form):
    """`least` to `most`, or one of them if they are written alike."""
    least, most = form.format(least), form.format(most)
    return least if least == most else f"{least} to {most}"


def costs(memory):
    """The lines of the table of costs. `memory` is each function's, in MB."""
    prices = {row[0]: float(row[1]) for row in table(OPERATIONS.read_text(), "input")}
    calls = {row[0]: row[2] for row in table(section(ARCHITECTURE, "Calls"), "endpoint")}
    lines = []
    for label, names in ROWS.items():
        summed = [units(calls[name]) for name in names]
        reads, writes = (
            [sum(one[kind][end] for one in summed) for end in (0, 1)] for kind in (0, 1)
        )
        read = prices["DynamoDB, a million read request units"]
        write = prices["DynamoDB, a million write request units"]
        database = [reads[end] * read + writes[end] * write for end in (0, 1)]
        hashes = " that hashes a password" if label in HASHES else ""
        duration = prices[f"milliseconds billed of a call{hashes}"] / 1000 * 1e6
        size = max(
            memory[name] for name in re.findall(r"`([\w-]+)`", label) or ["introspect-token"]
        )
        rest = prices["Lambda, a million requests"]
        rest += duration * size / 1024 * prices["Lambda, a GB-second on arm64"]
        logged = prices["bytes of log of a call, the API's included"] / 1e9 * 1e6
        rest += logged * prices["CloudWatch Logs, a GB taken in"]
        if "authorize" not in label:
            rest += prices["API Gateway, a million requests of an HTTP API"]
        cells = [label, span(*reads, "{}"), span(*writes, "{}")]
        cells += [span(*database, "{:.2f}"), span(*(one + rest for one in database), "{:.2f}")]
        lines.append(f"| {' | '.join(cells)} |")
    monthly = prices["KMS, a key a month"] + ALARMS * prices["CloudWatch, an alarm a month"]
    monthly += prices["CloudWatch, a dashboard a month"]
    sentence = f"A stack that nobody calls costs {monthly:.2f} a month: the key, five alarms, the dashboard."
    return [
        "| endpoint | read | write | DynamoDB | in all |",
        "| --- | --- | --- | --- | --- |",
        *lines,
    ], sentence


def problems(memory):
    """What docs/OPERATIONS.md says otherwise than it follows."""
    named = {name for label in ROWS for name in re.findall(r"`([\w-]+)`", label)}
    found = [f"costs: {name} has no row" for name in set(FUNCTIONS) ^ named]
    lines, sentence = costs(memory)
    text = OPERATIONS.read_text()
    wrong = [line for line in [*lines, sentence] if line not in text.splitlines()]
    extra = {"| " + " | ".join(row) + " |" for row in table(text, "endpoint")} - set(lines)
    found += [f"docs/OPERATIONS.md, Cost: is to say\n  {line}" for line in wrong]
    return found + [f"docs/OPERATIONS.md, Cost: is not to say\n  {line}" for line in sorted(extra)]
