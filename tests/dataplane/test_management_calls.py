"""What callers of the management API may say."""

from __future__ import annotations

import pytest

from flambeau_runtime.api.management_calls import (
    Page,
    Scaling,
    read_page,
    read_registration,
    read_scaling,
)
from flambeau_runtime.errors import BadRequest
from flambeau_runtime.serving.registration import Asked


@pytest.mark.parametrize(
    ("said", "length", "page"),
    [
        pytest.param({}, 3, Page(0, 3, None), id="a hundred by default"),
        pytest.param({}, 101, Page(0, 100, 100), id="and not more"),
        pytest.param({"limit": "2"}, 3, Page(0, 2, 2), id="a page, and the next one's token"),
        pytest.param({"limit": "2", "next_page_token": "2"}, 3, Page(2, 3, None), id="the last"),
        pytest.param(
            {"limit": "3"}, 3, Page(0, 3, 3), id="a page that ends at the last model has a token"
        ),
        pytest.param(
            {"limit": "3", "next_page_token": "3"}, 3, Page(3, 3, None), id="which leads to the end"
        ),
        pytest.param({"limit": "0"}, 3, Page(0, 0, 0), id="an empty page"),
        pytest.param({"limit": "-1"}, 3, Page(0, 3, None), id="a negative limit means a hundred"),
        pytest.param({"limit": "1000"}, 3, Page(0, 3, None), id="too high a limit means a hundred"),
        pytest.param({"limit": "many"}, 3, Page(0, 3, None), id="a word means the default"),
        pytest.param({"next_page_token": "9"}, 3, Page(3, 3, None), id="a token beyond the end"),
        pytest.param({"next_page_token": "-9"}, 3, Page(0, 3, None), id="a token before the start"),
        pytest.param({}, 0, Page(0, 0, None), id="no models at all"),
    ],
)
def test_a_list_is_read_in_pages(said, length, page):
    assert read_page(said, length) == page


@pytest.mark.parametrize(
    ("said", "scaling"),
    [
        pytest.param({}, Scaling(1, 1, False, None), id="one worker by default"),
        pytest.param(
            {"min_worker": "3"}, Scaling(3, 3, False, None), id="at most as many as at least"
        ),
        pytest.param(
            {"min_worker": "2", "max_worker": "4", "synchronous": "TRUE"},
            Scaling(2, 4, True, None),
            id="both bounds, synchronous in any case",
        ),
        pytest.param(
            {"min_worker": 0, "synchronous": "yes"},
            Scaling(0, 0, False, None),
            id="no worker, and yes is not true",
        ),
        pytest.param(
            {"model_version": "2.0"}, Scaling(1, 1, False, "2.0"), id="the version as a parameter"
        ),
    ],
)
def test_scaling_is_read(said, scaling):
    assert read_scaling(said, None) == scaling


@pytest.mark.parametrize(
    ("said", "message"),
    [
        pytest.param(
            {"min_worker": "2", "max_worker": "1"},
            "max_worker cannot be less than min_worker.",
            id="bounds that contradict each other",
        ),
        pytest.param({"min_worker": "-1"}, "min_worker cannot be negative.", id="less than none"),
    ],
)
def test_impossible_bounds_are_refused(said, message):
    with pytest.raises(BadRequest, match=message):
        read_scaling(said, None)


@pytest.mark.parametrize(
    ("said", "asked"),
    [
        pytest.param({"url": "m.mar"}, Asked("m.mar", workers=0), id="only an archive"),
        pytest.param(
            {"url": "m.mar", "initial_workers": "-2"},
            Asked("m.mar", workers=0),
            id="a negative number of workers is none",
        ),
        pytest.param(
            {"url": "m.mar", "batch_size": "many", "max_batch_delay": "-10000"},
            Asked("m.mar", workers=0),
            id="what is no number counts as not said",
        ),
        pytest.param(
            {
                "url": "m.mar",
                "model_name": "n",
                "handler": "h.py",
                "batch_size": "4",
                "max_batch_delay": "50",
                "initial_workers": "2",
                "response_timeout": "9",
            },
            Asked("m.mar", "n", "h.py", 4, 0.05, 2, 9),
            id="everything, as text of a query",
        ),
        pytest.param(
            {"url": "m.mar", "batch_size": 4, "initial_workers": 2},
            Asked("m.mar", batch_size=4, workers=2),
            id="numbers of a JSON body",
        ),
    ],
)
def test_a_registration_is_read(said, asked):
    assert read_registration(said, None).asked == asked


def test_workers_default_to_the_servers_setting():
    assert read_registration({"url": "m.mar"}, 3).asked.workers == 3


@pytest.mark.parametrize(
    ("said", "message"),
    [
        pytest.param({}, "Parameter url is required.", id="no archive"),
        pytest.param(
            {"url": "m.mar", "runtime": "java"},
            "Invalid RuntimeType value: java",
            id="a runtime that nobody has",
        ),
    ],
)
def test_an_impossible_registration_is_refused(said, message):
    with pytest.raises(BadRequest, match=message):
        read_registration(said, None)
