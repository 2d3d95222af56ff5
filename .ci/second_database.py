#!/usr/bin/env python3
"""Runs the black-box tests against ministack, a second emulator of DynamoDB.

The script starts ministack, and gives its URL to the tests in the variable `TOKENRY_TEST_ENDPOINT`.
The tests also accept the URL of any other DynamoDB in this variable. SKIPPED lists the tests that
fail on ministack. emulator.py lists the required Python packages.
"""

import contextlib
import os
import re
import subprocess

import boto3

from emulator import ROOT, ministack, must

NO_UNITS = "ministack's BatchGetItem does not return ConsumedCapacity"
QUERY_UNITS = "ministack's Query counts fewer capacity units than DynamoDB"
# The tests that fail on ministack, each with the reason.
SKIPPED = {
    "calls::each_endpoint_makes_the_calls_of_its_row": NO_UNITS,
    "calls::each_variant_makes_the_calls_that_it_lists": NO_UNITS,
    "calls::minting_reads_four_items_and_writes_one": NO_UNITS,
    "calls::a_token_that_introspects_itself_is_read_once": NO_UNITS,
    "calls::introspection_does_not_look_up_a_malformed_token": NO_UNITS,
    "calls::verifying_a_sliding_token_reads_and_writes_in_parallel": NO_UNITS,
    "calls::verifying_an_infinite_or_fixed_token_makes_one_read": NO_UNITS,
    "create_shortcode::creating_a_code_takes_two_round_trips": NO_UNITS,
    "descendants::a_revocation_has_no_extra_call_unless_the_token_has_made_another_token": NO_UNITS,
    "list_user_tokens::a_list_of_10_000_tokens_contains_each_valid_token_once_and_no_expired_token": QUERY_UNITS,
    "log_in_with_password::a_log_in_makes_exactly_these_database_calls": NO_UNITS,
    "not_before::a_token_issued_before_the_configured_time_is_rejected_without_a_read": NO_UNITS,
    "tags::a_forged_token_costs_no_database_call_at_any_endpoint": NO_UNITS,
    "tags::a_remembered_caller_costs_no_database_read_and_is_forgotten_after_the_configured_time": NO_UNITS,
    "token_limits::after_a_revocation_of_all_tokens_only_the_counted_tokens_are_read": NO_UNITS,
    "token_limits::the_calls_of_a_user_with_a_limit": NO_UNITS,
}
TESTS = ["cargo", "test", "--locked", "--workspace", "--test", "black_box", "--"]
# ministack handles only one database operation at a time, so more threads would only wait. Each
# operation takes milliseconds, so the heavy tests run only a twentieth of their rounds.
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

        # A table belongs to a region. The tests use the region "local" (cli/src/embedded.rs). The
        # SDK signs the requests of this region with us-east-1, so the tables are in us-east-1.
        session = boto3.Session("local", "local", region_name="us-east-1")
        tables = session.client("dynamodb", endpoint_url=url).get_paginator("list_tables")
        count = sum(len(page["TableNames"]) for page in tables.paginate())
        must(count > 400, f"the tests created more than 400 tables in ministack: {count} tables")

        arguments = [*TESTS, "--exact", *SKIPPED, f"--test-threads={THREADS}"]
        run = subprocess.run(arguments, cwd=ROOT, env=variables, capture_output=True, text=True)
        failed = set(re.findall(r"^test (\S+) \.\.\. FAILED$", run.stdout, re.M))
        stale = set(SKIPPED) - failed
        must(not stale, "every skipped test exists and fails on ministack", f"{run.stderr}{sorted(stale)}")


main()
