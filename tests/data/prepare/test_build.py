"""A store made case by case: what is there is kept, what changed is made again."""

import json

import numpy as np
import pytest
from small_study import contents, label_of, prepare_here, rewrite

from ossnet.data import PrepareConfig, Store
from ossnet.data.prepare.build import make_case, open_store_for_writing, remove_stale
from ossnet.data.prepare.plan import load_if_current, make_plan
from ossnet.data.store.case_file import write_case
from ossnet.errors import UserError


def test_a_loop_makes_a_store(study, tmp_path):
    config = PrepareConfig(study, tmp_path / "store")
    plan = make_plan(config)
    assert load_if_current(plan) is None
    manifest = prepare_here(plan)
    assert load_if_current(make_plan(config)) == manifest
    assert not manifest.excluded
    assert manifest.configuration["normalization"] == ["auto"]
    assert manifest.task.normalization == "zscore-foreground"
    assert {path.name for path in config.output.iterdir()} == {"cases", "manifest.json"}


def test_only_what_is_missing_is_made(study, tmp_path):
    whole, cut = (PrepareConfig(study, tmp_path / name) for name in ("whole", "cut"))
    prepare_here(make_plan(whole))
    plan = make_plan(cut)
    with open_store_for_writing(plan):
        for case in plan.missing[:2]:
            write_case(plan.path(case), make_case(case, plan.recipe))
    (cut.output / "cases" / ".0123456789ab-phantom_002.0123456789abcdef.arrow").write_bytes(b"ARROW")
    plan = make_plan(cut)
    assert [case.id for case in plan.missing] == ["phantom_002", "phantom_003", "phantom_004"]
    prepare_here(plan)
    assert contents(whole.output) == contents(cut.output)


def test_a_changed_input_renews_its_case_only(scans, tmp_path):
    config = PrepareConfig(scans, tmp_path / "store")
    before = prepare_here(make_plan(config))
    rewrite(label_of(scans), lambda label: np.minimum(label, 1))
    plan = make_plan(config)
    assert load_if_current(plan) is None
    assert [case.id for case in plan.missing] == ["phantom_001"]
    assert Store.open(config.output).manifest == before  # whole until the new manifest is there
    after = prepare_here(plan)
    assert after.cases["phantom_001"].statistics.class_counts[2:] == (0, 0)
    assert len(list((config.output / "cases").iterdir())) == 5


@pytest.mark.parametrize(("version", "renewed"), [(4, False), (2, True)])
def test_a_newer_store_is_kept_and_an_older_one_renewed(study, tmp_path, version, renewed):
    config = PrepareConfig(study, tmp_path / "store")
    prepare_here(make_plan(config))
    path = config.output / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": version}))
    if renewed:
        assert prepare_here(make_plan(config)).schema_version == 3
    else:
        with pytest.raises(UserError, match="update ossnet"):
            make_plan(config)


def test_what_a_killed_run_left_is_removed(study, tmp_path):
    config = PrepareConfig(study, tmp_path / "store")
    manifest = prepare_here(make_plan(config))
    before = contents(config.output)
    (config.output / ".0123456789ab-manifest.json").write_text("{")
    (config.output / "cases" / ".0123456789ab-phantom_002.0123456789abcdef.arrow").write_bytes(b"ARROW")
    (config.output / f".cases-{'0123456789abcdef' * 2}").mkdir()
    remove_stale(config.output, manifest)
    assert contents(config.output) == before
