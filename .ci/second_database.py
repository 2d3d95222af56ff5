#!/usr/bin/env python3
"""Runs the black-box tests against ministack, a second emulator of DynamoDB.

The script starts ministack. `TOKENRY_TEST_ENDPOINT` makes the tests use it; the variable works with
any DynamoDB. SKIPPED lists the tests that ministack cannot pass, with the reason. emulator.py lists
the requirements.
"""

import contextlib
import os
import re
import subprocess

import boto3

from emulator import ROOT, ministack, must

NO_UNITS = "ministack's BatchGetItem does not return ConsumedCapacity"
# The tests that fail on ministack, with the reason.
SKIPPED = {
    "calls::each_endpoint_makes_the_calls_of_its_row": NO_UNITS,
    "calls::each_variant_makes_the_calls_that_it_lists": NO_UNITS,
    "calls::minting_reads_four_items_and_writes_one": NO_UNITS,
    "calls::a_token_that_introspects_itself_is_read_once": NO_UNITS,
    "calls::a_malformed_token_to_introspect_is_not_looked_up": NO_UNITS,
    "calls::verifying_a_sliding_token_reads_and_writes_in_parallel": NO_UNITS,
    "calls::verifying_an_infinite_or_fixed_token_makes_one_read": NO_UNITS,
    "create_shortcode::it_takes_two_round_trips": NO_UNITS,
    "log_in_with_password::a_log_in_makes_exactly_these_database_calls": NO_UNITS,
    "not_before::a_token_issued_before_this_time_is_rejected_without_a_read": NO_UNITS,
}
TESTS = ["cargo", "test", "--locked", "--workspace", "--test", "black_box", "--"]
# ministack handles one call at a time, which takes milliseconds. More threads would only wait, and
# the heavy tests run fewer rounds.
THREADS, FEWER = 2, 20


def main():
    with contextlib.ExitStack() as stack:
        url, _ = ministack(stack)
        variables = os.environ | {"TOKENRY_TEST_ENDPOINT": url, "TOKENRY_TEST_FEWER": str(FEWER)}

        for test, reason in SKIPPED.items():
            print(f"skipped: {test}: {reason}", flush=True)
        skips = [argument for test in SKIPPED for argument in ("--skip", test)]
        arguments = [*TESTS, "--exact", *skips, f"--test-threads={THREADS}"]
        run = subprocess.run(arguments, cwd=ROOT, env=variables)
        must(run.returncode == 0, "the black-box tests pass on ministack")

        # Tables belong to a region. The SDK signs with this one for "local" (cli/src/embedded.rs).
        session = boto3.Session("local", "local", region_name="us-east-1")
        tables = session.client("dynamodb", endpoint_url=url).get_paginator("list_tables")
        count = sum(len(page["TableNames"]) for page in tables.paginate())
        must(count > 400, f"the tests created more than 400 tables in ministack: {count}")

        arguments = [*TESTS, "--exact", *SKIPPED, f"--test-threads={THREADS}"]
        run = subprocess.run(arguments, cwd=ROOT, env=variables, capture_output=True, text=True)
        failed = set(re.findall(r"^test (\S+) \.\.\. FAILED$", run.stdout, re.M))
        stale = set(SKIPPED) - failed
        must(not stale, "every skipped test exists and fails on ministack", f"{run.stderr}{sorted(stale)}")


main()
