"""Every answer of docs/faq.md is held by tests that show it, and this page says by which."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "faq.md"
#: What shows the claims of an answer, in their order.
SHOWN: Mapping[str, tuple[str, ...]] = {
    # --- Slurm
    "I have more jobs than an array may have.": (
        "tests/orchestrator/backends/slurm/test_layout.py::test_every_arrangement_is_sound",
        "tests/orchestrator/backends/slurm/test_golden_scripts.py::test_no_more_than_the_site_allows_runs_at_once_and_else_all",
        "tests/slurm/test_scripts.py::test_every_kind_of_waiting_comes_to_its_end",
        "tests/slurm/test_operating.py::test_the_doctor_finds_what_the_config_has_wrong",
        "tests/slurm/test_submit.py::test_what_the_queue_does_not_take_waits_in_the_plan_and_the_next_call_hands_it_over",
    ),
    '`sbatch` said "Socket timed out". Is the job there or not?': (
        "tests/slurm/test_silent_sbatch.py::test_what_never_got_through_is_submitted_again_by_the_next_client",
        "tests/slurm/test_silent_sbatch.py::test_an_answer_that_was_lost_is_looked_up_and_the_submission_adopted",
        "tests/slurm/test_silent_sbatch.py::test_a_frozen_controller_that_submits_when_it_goes_on",
    ),
    "My job hit its time limit.": (
        "tests/slurm/test_time_limits.py::"
        "test_slurm_requeues_what_its_limit_ended_and_the_next_call_asks_for_more_time_where_nothing_was_saved",
        "tests/orchestrator/backends/slurm/test_request.py::test_a_job_with_a_short_limit_is_asked_to_save_only_once_it_can_hear_it",
        "tests/slurm/test_real_faults.py::test_training_goes_on_exactly_after_its_time_limit",
        "tests/slurm/test_operating.py::test_logs_go_on_after_a_requeue_and_end_with_the_job",
    ),
    "A job was preempted, or its node died.": (
        "tests/slurm/test_faults.py::test_slurm_starts_again_what_it_took_away_and_the_job_goes_on",
        "tests/slurm/test_real_faults.py::test_training_goes_on_exactly_after_a_preemption_a_signal_a_requeue_and_a_killed_child",
        "tests/slurm/test_lost_nodes.py::test_the_next_call_leaves_out_a_node_that_took_its_job_with_it",
        "tests/slurm/test_lost_nodes.py::test_a_job_that_slurm_puts_on_the_node_again_goes_elsewhere",
    ),
    "A child ran though its parent had failed.": (
        "tests/slurm/test_cluster.py::test_the_child_of_a_failed_parent_runs_once_the_parent_is_forgotten",
        "tests/slurm/test_forgotten_parent.py::test_the_child_of_a_failed_and_forgotten_parent_is_refused_and_not_submitted_again",
    ),
    "Jobs wait for ever with `DependencyNeverSatisfied`.": (
        "tests/slurm/test_operating.py::test_jobs_that_wait_are_told_by_the_real_reasons",
        "tests/orchestrator/backends/slurm/test_pending.py::test_every_reason_has_words",
        "tests/orchestrator/backends/slurm/test_pending.py::test_a_reason_says_what_it_means_and_what_would_help",
        "tests/orchestrator/backends/slurm/test_golden_scripts.py::test_the_scripts_of_a_site",
        "tests/slurm/test_submit.py::test_what_somebody_took_out_of_the_queue_takes_what_waits_for_it_along_and_the_next_call_hands_over_both",
    ),
    "Our cluster has no accounting.": (
        "tests/orchestrator/backends/slurm/test_poll.py::test_a_site_without_accounting_is_asked_for_its_queue_alone",
        "tests/orchestrator/backends/slurm/test_poll.py::test_an_empty_answer_is_not_believed_until_it_was_given_for_a_while",
        "tests/slurm/test_forgotten_parent.py::"
        "test_a_job_that_left_the_queue_without_a_word_is_looked_for_twice_and_goes_on_at_the_next_call",
    ),
    "One typo failed five hundred jobs.": (
        "tests/slurm/test_brakes.py::test_a_typo_in_a_sweep_of_500_jobs_costs_one",
        "tests/orchestrator/backends/slurm/test_layout.py::test_the_canary_is_the_shortest_and_its_parents_do_not_wait_for_it",
        "tests/slurm/test_brakes.py::test_the_third_failure_of_a_kind_stops_the_sweep_until_a_person_resumes_it",
        "tests/orchestrator/test_clusters.py::test_without_a_word_mistakes_are_braked_and_records_are_asked",
        "tests/slurm/test_typed.py::test_a_typo_in_300_jobs_costs_one_and_a_sweep_is_called_off",
    ),
    "The admins complain that I poll.": (
        "tests/slurm/test_operating.py::test_status_asks_slurm_once_for_one_sweep_and_for_several",
        "tests/orchestrator/test_watching.py::test_the_scheduler_is_asked_now_and_then_and_the_files_at_every_look",
    ),
    "I edited the code while jobs waited.": (
        "tests/slurm/test_scripts.py::test_a_queued_job_runs_the_code_of_its_submission",
        "tests/slurm/test_operating.py::test_explain_says_why_a_job_waits_and_what_for",
    ),
    "Thousands of short jobs drown in the queue.": (
        "tests/orchestrator/backends/slurm/test_layout.py::test_chains_become_one_array",
        "tests/slurm/test_submit.py::test_a_failed_evaluation_takes_no_other_of_its_allocation_along",
        "tests/slurm/test_cancel.py::test_four_run_side_by_side_and_what_ends_of_them_ends_nothing_else",
        "tests/slurm/test_ray_on_slurm.py::test_a_plan_runs_on_both_nodes_and_the_allocation_is_given_back",
    ),
    # --- memory, disk, other people
    "CUDA ran out of memory, and Slurm says `FAILED`.": (
        "tests/jobs/test_main.py::test_a_failure_is_classified_and_kept",
        "tests/slurm/test_real_faults.py::test_the_job_halves_its_passes_when_the_gpu_is_too_small",
        "tests/trainers/test_gpu.py::test_a_real_out_of_memory_halves_the_passes_of_the_same_experiment",
        "tests/trainers/test_loop_memory.py::test_accumulated_batches_have_the_gradient_of_the_whole",
        "tests/trainers/test_loop_memory.py::test_out_of_memory_is_raised_when_smaller_passes_are_no_way_out",
        "tests/orchestrator/test_submit.py::test_resume_takes_what_failed_in_the_way_that_is_named_or_is_named_itself",
        "tests/orchestrator/test_identity.py::test_a_smaller_micro_batch_makes_new_jobs_of_the_whole_phase",
    ),
    "The host ran out of memory.": ("tests/slurm/test_faults.py::test_resume_asks_for_more_memory_after_the_host_ran_out_of_it",),
    "Checkpoints fill the disk.": (
        "tests/jobs/test_checkpoints.py::test_the_last_and_the_best_are_kept_with_their_manifests",
        "tests/trainers/test_training.py::test_the_best_by_the_monitor_and_the_last_are_kept_with_the_predictions_behind_their_numbers",
        "tests/orchestrator/test_cli.py::test_garbage_is_listed_before_anything_is_deleted",
    ),
    "The disk was full in the middle.": (
        "tests/e2e/test_full_disk.py::test_a_disk_that_fills_up_keeps_what_was_done_and_the_same_command_goes_on",
        "tests/e2e/test_full_disk.py::test_a_disk_that_others_filled_is_one_sentence",
    ),
    "A colleague uses the same machine.": (
        "tests/orchestrator/backends/test_ray.py::test_a_colleagues_ray_is_not_joined_and_no_more_is_taken_than_the_config_says",
        "tests/orchestrator/backends/test_ray.py::test_a_plan_with_everything_that_can_happen_to_a_job",
        "tests/orchestrator/backends/test_base.py::test_the_config_says_what_there_is_and_else_the_machine_is_asked",
    ),
    "Two of us submitted the same study at once.": (
        "tests/orchestrator/test_submit.py::test_two_clients_at_once_run_each_job_once_and_lose_none",
        "tests/slurm/test_many_clients.py::test_the_same_sweep_is_submitted_by_one_and_followed_by_all",
    ),
    # --- sweeps
    "`1e-4` became a string, `no` became false.": (
        "tests/orchestrator/test_documents.py::test_plain_scalars_follow_the_core_schema",
        "tests/orchestrator/test_bad_sweeps.py::test_a_bad_sweep_is_refused_with_its_message",
    ),
    "I changed one value. Does all of it run again?": (
        "tests/orchestrator/test_identity.py::test_a_changed_key_says_why_and_what_follows_says_from_where",
        "tests/orchestrator/test_cli.py::test_a_changed_value_shows_as_a_change_and_says_why",
    ),
    "I added points, or took some away.": (
        "tests/orchestrator/test_properties.py::test_adding_points_changes_only_what_a_larger_choice_decides",
        "tests/orchestrator/test_submit.py::test_points_that_an_edited_sweep_no_longer_has_are_cancelled_on_request",
        "tests/orchestrator/test_axes.py::test_more_samples_keep_the_earlier_ones",
    ),
    "One point diverged. Does the study stop?": (
        "tests/e2e/test_lost_points.py::test_a_point_that_diverged_loses_and_the_study_goes_on",
        "tests/slurm/test_faults.py::test_the_job_counts_a_diverged_tune_point_as_done_and_the_pick_goes_on",
    ),
    "A failed run is never tried again, or all of it is.": (
        "tests/orchestrator/test_submit.py::test_failures_hold_up_what_follows_and_nothing_else_and_wait_for_resume",
        "tests/slurm/test_cancel.py::test_what_waits_is_cancelled_at_once_and_only_resume_runs_it_again",
        "tests/orchestrator/test_submit.py::test_resume_takes_what_failed_in_the_way_that_is_named_or_is_named_itself",
        "tests/slurm/test_typed.py::test_one_job_of_a_sweep_is_called_off_until_it_is_resumed",
    ),
    "I want more draws where the interval is widest.": (
        "tests/orchestrator/report/study/test_splits.py::test_the_command_asks_for_what_the_declared_differences_need",
        "tests/orchestrator/expansion/test_repeats.py::test_submit_runs_the_added_draws_and_nothing_else",
        "tests/test_commands_run.py::test_the_tutorial_does_what_it_says",
    ),
    "A search leaves GPUs idle, or stops good runs of the harder arm.": (
        "tests/orchestrator/backends/test_ray_search.py::test_losers_stop_and_the_pick_chooses_among_the_others",
        "tests/orchestrator/execution/test_board.py::test_a_worker_that_is_free_gets_jobs_of_its_size_first_and_picks_fit_anywhere",
        "tests/orchestrator/execution/test_board.py::test_every_job_is_handed_out_once_after_its_inputs_or_not_at_all",
    ),
    # --- MLflow
    "Eight jobs opened a fresh SQLite store and broke it.": (
        "tests/jobs/test_no_network.py::test_a_study_of_jobs_asks_nobody",
        "tests/orchestrator/mirror/test_tracking_store.py::test_eight_processes_at_once_make_one_store",
        "tests/orchestrator/mirror/test_tracking.py::test_syncing_after_every_job_ends_where_one_sync_does",
    ),
    "Nodes have no network.": (
        "tests/jobs/test_no_network.py::test_a_study_of_jobs_asks_nobody",
        "tests/e2e/test_bad_data.py::test_imagenet_without_network_and_file_says_exactly_what_to_do_when_planned",
    ),
    "The server was away.": ("tests/e2e/test_server_away.py::test_what_it_missed_is_there_after_one_sync",),
    "A requeue made a new run, and a dead one is RUNNING for ever.": (
        "tests/orchestrator/mirror/test_replaced.py::test_a_run_that_somebody_renamed_is_known_by_its_tag",
        "tests/orchestrator/mirror/test_tracking.py::test_a_requeued_job_goes_on_in_its_own_run",
        "tests/orchestrator/mirror/test_tracking.py::test_a_killed_process_leaves_no_running_run",
        "tests/orchestrator/mirror/test_tracking.py::test_a_failure_is_told_and_forgotten_once_the_job_succeeds",
    ),
    "I lost the database.": (
        "tests/e2e/test_damaged_runs.py::test_a_damaged_mlflow_database_stops_no_sweep",
        "tests/orchestrator/mirror/test_tracking_store.py::test_a_deleted_database_comes_back_silently_and_without_a_network",
    ),
    # --- reports
    "Can I average seeds, and get an interval?": (
        "tests/orchestrator/report/test_analysis.py::test_a_cell_is_the_mean_over_draws_of_the_macro_area",
        "tests/orchestrator/report/test_estimands.py::test_pretrainings_are_replicates_where_there_are_several",
        "tests/orchestrator/report/test_render.py::test_verdicts_carry_estimate_interval_what_was_resampled_p_and_n",
    ),
    "I have predictions from my own code.": (
        "tests/orchestrator/report/files/test_command.py::test_a_report_of_files_needs_no_sweep_and_no_cluster",
        "tests/orchestrator/report/files/test_inputs.py::test_a_sweep_and_its_predictions_give_the_same_answers",
    ),
    "May I use this method, these weights, this data set?": (
        "tests/test_method_pages.py::test_licences_are_told_with_their_source",
        "tests/test_method_pages.py::test_what_is_patented_stands_first",
    ),
}


@cache
def functions_of(file: str) -> frozenset[str]:
    """Return the names of the functions that a file defines."""
    body = ast.parse((ROOT / file).read_text(encoding="utf-8")).body
    return frozenset(one.name for one in body if isinstance(one, ast.FunctionDef))


def questions(page: str) -> list[str]:
    """Return what stands in bold at the beginning of a paragraph."""
    return re.findall(r"(?m)^\*\*(.+?)\*\*(?= )", page)


def test_every_question_is_here_and_no_other() -> None:
    asked = questions(PAGE.read_text(encoding="utf-8"))
    assert len(asked) > 30
    assert asked == list(SHOWN), "in the order of the page"


def test_a_paragraph_of_the_page_is_a_question_with_its_answer() -> None:
    paragraphs = [one for one in PAGE.read_text(encoding="utf-8").split("\n\n")[2:] if not one.startswith("## ")]
    assert [one for one in paragraphs if not questions(one)] == []


@pytest.mark.parametrize("question", SHOWN)
def test_every_answer_is_shown(question: str) -> None:
    named = [one.partition("::") for one in SHOWN[question]]
    assert named and len(set(SHOWN[question])) == len(named)
    assert [f"{file}::{test}" for file, _, test in named if not test.startswith("test_") or test not in functions_of(file)] == []
