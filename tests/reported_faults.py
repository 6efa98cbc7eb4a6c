"""The kinds of faults that were reported, and the tests of the right behaviour.

`python -m pytest -m reported` runs the tests of this table, slow ones included.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

_ANY_NAMES = "e2e/test_any_names.py::test_"
_CHOICES = "distributed/tuning/test_choices.py::test_"
_CLAIM = "output/test_claim.py::test_"
_CONNECTION = "distributed/cluster/test_connection.py::test_"
_FILE_NAMES = "output/test_file_names.py::test_"
_FORMATS = "data/imaging/test_formats.py::test_"
_HEADER = "data/imaging/test_header.py::test_"
_JOB_OUTPUTS = "commands/test_job_outputs.py::test_"
_LAYOUTS = "data/layouts/test_names_and_completeness.py::test_"
_LOST_METRICS = "distributed/tracking/test_lost_metrics.py::test_"
_NEXT = "commands/test_next_command.py::test_"
_PREDICTIONS = "commands/test_predictions_kept.py::test_"
_REDRAWN = "distributed/tuning/test_redrawn.py::test_"
_REPORTED = "e2e/test_reported_faults.py::test_"
_RESUMED = "distributed/tuning/test_resumed_search.py::test_"
_SEARCHER = "distributed/tuning/test_searcher.py::test_"
_SPACE = "distributed/tuning/test_search_space.py::test_"
_SPACE_FILE = "distributed/tuning/test_space_file.py::test_"
_SQLITE = "distributed/test_sqlite.py::test_"
_TASK = "data/labels/test_task.py::test_"
_UNUSUAL = "data/verification/test_unusual_files.py::test_"


@dataclass(frozen=True)
class Kind:
    """A kind of faults."""

    reported: Mapping[str, tuple[str, ...]]
    """By the program that shows a fault, the tests that do the same with inputs of their own."""
    further: Mapping[str, str]
    """Other inputs of the kind, and the test of each."""

    def tests(self) -> Iterator[str]:
        """All tests of the kind, as pytest calls them from the folder of tests."""
        for tests in self.reported.values():
            yield from tests
        yield from self.further.values()


KINDS: Mapping[str, Kind] = {
    "outputs that destroy inputs or other results": Kind(
        reported={
            "prepare_deletes_scans": (f"{_JOB_OUTPUTS}a_store_is_made_and_a_persons_files_stay",),
            "predict_overwrites_labels": (f"{_PREDICTIONS}a_file_of_another_origin_is_kept",),
            "tune_replaces_a_trained_network": (f"{_JOB_OUTPUTS}each_job_rejects_the_output_of_every_other",),
        },
        further={
            "any two jobs, source, output and link": (
                f"{_JOB_OUTPUTS}nothing_that_no_job_made_changes_or_goes"
            ),
            "a table of files in the store": (
                f"{_JOB_OUTPUTS}a_table_may_list_files_of_the_store_that_is_made_of_it"
            ),
            "a label map that was corrected by hand": f"{_PREDICTIONS}a_correction_by_hand_is_kept_and_told",
            "a source in the output through a link": f"{_CLAIM}source_and_output_may_not_overlap",
            "two jobs at once": f"{_CLAIM}one_job_at_a_time_writes_to_an_output",
        },
    ),
    "channels of one name": Kind(
        reported={"same_modality_names": (f"{_LAYOUTS}each_channel_is_read_from_its_own_file",)},
        further={
            "equal but for case, by an alias, three times, empty": (
                f"{_LAYOUTS}channels_of_one_name_are_told_apart_by_number"
            ),
            "noNorm": f"{_LAYOUTS}no_normalization_and_ct_are_known_with_a_number_too",
            "names that are not the network's": (
                f"{_LAYOUTS}channels_that_are_called_otherwise_are_matched_by_number"
            ),
            "from scans to a report": f"{_ANY_NAMES}names_that_have_caused_losses_give_everything",
        },
    ),
    "metrics lost without a word": Kind(
        reported={
            "label_names_lose_metrics": (f"{_LOST_METRICS}every_class_has_its_metric",),
            "artefact_store_that_cannot_be_written": (
                f"{_LOST_METRICS}files_that_cannot_be_written_hold_nothing_up",
            ),
        },
        further={
            "an artifact store that is away": (
                f"{_LOST_METRICS}files_wait_for_their_store_in_a_queue_of_their_own"
            ),
            "any experiment": f"{_LOST_METRICS}every_experiment_has_a_name",
            "any file": f"{_LOST_METRICS}a_file_of_any_name_is_an_artifact",
            "a tracker that is killed": f"{_LOST_METRICS}what_waits_outlives_the_tracker",
            "a run that is deleted": (
                f"{_LOST_METRICS}metrics_of_a_run_that_was_deleted_while_it_trains_are_counted"
            ),
        },
    ),
    "races between jobs that start at once": Kind(
        reported={
            "two_first_starts": (f"{_SQLITE}jobs_of_an_array_start_at_once",),
            "two_jobs_one_new_experiment": (f"{_SQLITE}jobs_of_an_array_start_at_once",),
        },
        further={
            "16 jobs without a store, 4 with one, and a study": f"{_SQLITE}jobs_of_an_array_start_at_once",
            "one output for 8 jobs of one or two kinds": (
                f"{_CLAIM}of_jobs_that_start_at_once_one_has_a_new_output"
            ),
            "an output that is in use": f"{_CLAIM}one_job_at_a_time_writes_to_an_output",
        },
    ),
    "files dropped in silence": Kind(
        reported={
            "silently_left_out": (f"{_REPORTED}every_scan_of_a_folder_is_read_or_reported",),
            "one_name_in_many_folders": (f"{_LAYOUTS}one_name_in_many_folders_gives_a_case_each",),
        },
        further={
            "cases listed twice, numTraining": f"{_LAYOUTS}counts_add_up",
            "files beside a table": f"{_LAYOUTS}scans_that_a_table_does_not_list_are_a_note",
            "endings in upper case": f"{_LAYOUTS}endings_in_upper_case_are_read_and_said",
            "half a pair": f"{_FORMATS}half_a_pair_is_reported",
        },
    ),
    "label values that do not fit": Kind(
        reported={"label_values_wrap": (f"{_UNUSUAL}large_and_negative_labels_reach_the_store",)},
        further={
            "300 labels": f"{_UNUSUAL}more_labels_than_a_store_holds_are_one_finding",
            "the ends of 32 bits": f"{_TASK}every_value_of_32_bits_is_written_as_it_was_read",
            "any values": f"{_TASK}any_values_come_back",
            "values twice or beyond 32 bits": (
                f"{_TASK}labels_that_cannot_be_told_apart_are_refused_when_the_task_is_made"
            ),
        },
    ),
    "the environment": Kind(
        reported={
            "long_tmpdir": (f"{_CONNECTION}ray_starts_and_ends_with_the_tmpdir_of_a_batch_system",),
            "percent_and_question_mark_in_paths": (f"{_SQLITE}everything_lies_in_the_folder_that_was_given",),
        },
        further={
            "links of 10, 70 and 200 characters": f"{_CONNECTION}a_link_is_short_and_goes",
            "any path of a store": f"{_SQLITE}a_url_leads_to_its_path",
            "a cluster that does not answer": f"{_CONNECTION}a_cluster_that_does_not_answer_is_one_line",
            "a wrong address": f"{_CONNECTION}a_wrong_address_is_reported_at_once",
            "any name in the next command": f"{_NEXT}a_shell_reads_any_name_as_it_is",
        },
    ),
    "what headers mean": Kind(
        reported={
            "units_are_not_mm": (f"{_UNUSUAL}a_store_is_the_same_in_any_unit",),
            "label_stored_along_other_axes": (
                f"{_UNUSUAL}a_label_stored_along_other_axes_makes_the_same_store",
            ),
            "qform_is_none_but_sform_is_good": (
                f"{_UNUSUAL}a_broken_qform_is_a_warning_where_the_sform_counts",
                f"{_HEADER}a_broken_qform_beside_a_good_sform_does_not_matter",
            ),
            "vox_offset_zero": (f"{_UNUSUAL}an_offset_of_0_is_read_right_and_said",),
        },
        further={
            "meters where the numbers are mm": f"{_UNUSUAL}sizes_that_no_scanner_has_are_a_warning",
            "both form codes 0": f"{_UNUSUAL}no_placement_is_a_warning_of_verify_and_prepare",
            "a label in another unit": f"{_HEADER}a_label_in_other_units_lies_on_the_same_grid",
            "a broken sform": f"{_HEADER}a_broken_sform_that_is_not_in_use_does_not_matter",
            "a mirrored grid": f"{_HEADER}a_mirrored_grid_is_another_grid",
            "other impossible offsets": f"{_HEADER}an_offset_that_cannot_be_is_reported",
        },
    ),
    "names and ids": Kind(
        reported={
            "case_ids_with_slashes": (f"{_REPORTED}any_id_stays_inside_the_store",),
            "label_names_that_collide": (
                f"{_LAYOUTS}labels_that_collide_are_kept_and_said",
                f"{_LAYOUTS}labels_that_contradict_each_other_are_refused",
            ),
            "long_case_names": (f"{_ANY_NAMES}names_that_have_caused_losses_give_everything",),
            "file_names_not_utf8": (f"{_REPORTED}file_names_that_are_no_text",),
        },
        further={
            "ids that collide across layouts": (
                f"{_LAYOUTS}ids_that_collide_across_layouts_have_files_of_their_own"
            ),
            "any names of files": f"{_FILE_NAMES}any_names_become_different_safe_ones",
            "names equal but for case": f"{_FILE_NAMES}names_equal_but_for_case_get_files_of_their_own",
            "any names of everything": f"{_ANY_NAMES}any_names_give_everything_or_are_refused_before",
            "a check that breaks off": "e2e/test_verify.py::test_a_check_that_breaks_off_is_no_warning",
        },
    ),
    "search spaces": Kind(
        reported={
            "tuple_choices": (f"{_CHOICES}a_space_of_tuples", f"{_SEARCHER}tuples_among_choices"),
            "space_with_constraint_or_helper": (
                f"{_REDRAWN}what_the_space_forbids_is_drawn_again",
                f"{_SPACE_FILE}a_space_imports_the_files_beside_it",
                "e2e/test_changed_space.py::test_a_comment_may_change_and_a_value_may_not",
            ),
            "repeats_are_told_as_too_large": (f"{_REDRAWN}repeats_are_no_rejections",),
        },
        further={
            "choices of any kind": f"{_CHOICES}each_choice_comes_back_from_a_study_s_file",
            "constraints that are rarely met": f"{_SPACE}constraints_are_drawn_again",
            "a space that forbids everything": f"{_SPACE}a_space_that_forbids_everything",
            "helpers of one name": f"{_SPACE_FILE}helpers_of_two_folders_are_not_mixed_up",
            "a changed comment": f"{_RESUMED}comments_and_format_of_a_space_do_not_block_resuming",
        },
    ),
    "messages": Kind(
        reported={
            "output_that_cannot_be_written": (f"{_JOB_OUTPUTS}an_output_that_cannot_be_written_is_one_line",),
            "other_formats_are_told_to_be_copied_again": (
                f"{_FORMATS}other_formats_are_named_with_what_converts_them",
                f"{_FORMATS}content_decides_whether_a_file_is_compressed",
                f"{_FORMATS}pairs_are_read_by_either_half",
            ),
        },
        further={
            "a full disk": "output/test_atomic_write.py::test_a_full_disk_keeps_what_was_there",
            "paths as people write them": f"{_LAYOUTS}paths_as_people_write_them",
            "names nearly right": f"{_LAYOUTS}names_nearly_right_get_the_expected_one",
            "a store of runs that is none": f"{_LOST_METRICS}a_store_that_cannot_be_used_is_one_line",
            "a study's file that is none": f"{_SQLITE}a_study_that_cannot_be_read_is_one_line",
        },
    ),
}
