"""The tenant of a call in the dispatcher's core: from AVR Core, from the worker, from an earlier dispatcher."""

from __future__ import annotations

from common.link import wire
from common.settings.tenants import NO_TENANTS, Tenants
from dispatcher.call.actions import Action, ToWorker
from dispatcher.call.call import Call
from tests.dispatcher.call_driver import CallDriver

TENANTS = Tenants("to", ["acme=+4930123456", "globex"])
UUID = "3f0c7a52-9b1d-4e8f-a6c4-5d2e1f0b9a87"


def call_to(number: str, tenants: Tenants = TENANTS) -> CallDriver:
    driver = CallDriver()
    driver.call = Call({"to": number}, driver.now, driver.limits, tenants=tenants)
    return driver


def opened(actions: list[Action]) -> wire.Open:
    (opening,) = [each.record for each in actions if isinstance(each, ToWorker) and type(each.record) is wire.Open]
    assert isinstance(opening, wire.Open)
    return opening


def test_without_tenants_the_worker_is_told_none_and_tells_none() -> None:
    driver = call_to("acme", NO_TENANTS)
    driver.init()
    assert opened(driver.placed()).tenant == ""
    driver.record(wire.Opened(32_000))
    driver.record(wire.Profile({"model": "m"}, {}, "acme"))
    assert driver.call.identity.tenant == ""


def test_the_worker_is_told_the_tenant_of_the_metadata() -> None:
    driver = call_to("004930123456")
    assert driver.call.identity.tenant == "acme", "a call without init has a tenant, too"
    driver.init()
    assert opened(driver.placed()).tenant == "acme"


def test_init_may_name_a_listed_tenant() -> None:
    driver = call_to("+4930123456")
    driver.say(type="init", uuid="call-1", provider_config={"tenant": "globex"})
    assert driver.call.identity.tenant == "globex"


def test_the_tenant_of_the_worker_goes_to_the_next_worker() -> None:
    driver = call_to("+4930123456").connecting()
    driver.record(wire.Profile({"model": "m"}, {}, "umbrella"))
    driver.record(wire.Ready())
    assert driver.call.identity.tenant == "umbrella"
    driver.lose_worker()
    assert opened(driver.placed(worker="w-2", epoch=2, pins=2)).tenant == "umbrella"


def test_a_worker_of_an_earlier_release_changes_nothing() -> None:
    driver = call_to("+4930123456").connecting()
    driver.record(wire.Profile({"model": "m"}, {}, "umbrella"))
    driver.record(wire.Profile({"model": "n"}, {}))
    assert driver.call.identity.tenant == "umbrella"


def test_a_private_name_of_a_worker_is_other() -> None:
    driver = call_to("+4930123456").connecting()
    driver.record(wire.Profile({"model": "m"}, {}, UUID))
    assert driver.call.identity.tenant == "other"


def test_a_tenant_that_an_earlier_dispatcher_wrote_is_the_calls() -> None:
    identity = call_to("+4930123456").call.identity
    identity.tenant_recalled("")
    assert identity.tenant == "acme"
    identity.tenant_recalled("umbrella")
    assert identity.tenant == "umbrella"


def test_what_the_worker_told_is_newer_than_what_was_written() -> None:
    driver = call_to("+4930123456").connecting()
    driver.record(wire.Profile({"model": "m"}, {}, "umbrella"))
    driver.call.identity.tenant_recalled("acme")
    assert driver.call.identity.tenant == "umbrella"
