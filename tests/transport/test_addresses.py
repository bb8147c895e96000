"""Which addresses are refused?  The table of RELIABILITY section 4."""

from __future__ import annotations

import pytest

from connectors.contract import RetryableError
from connectors.transport.addresses import AddressBook, AddressRefused, Place, place, refusal

PUBLIC = {"quickbooks.api.intuit.com": ["52.10.20.30"], "both.example": ["52.10.20.30", "192.168.0.7"]}

HOSTILE = [
    # not plain URLs
    "",
    "quickbooks.api.intuit.com",
    "//quickbooks.api.intuit.com/",
    "ftp://quickbooks.api.intuit.com/",
    "file:///etc/passwd",
    "gopher://127.0.0.1:6379/_INFO",
    "https:///v3/company",
    "https:quickbooks.api.intuit.com",
    "https://quickbooks.api.intuit.com:0/",
    "https://quickbooks.api.intuit.com:70000/",
    "https://quickbooks.api.intuit.com:443:80/",
    # the host is not what it seems
    "https://quickbooks.api.intuit.com@10.0.0.1/",
    "https://user:pass@quickbooks.api.intuit.com/",
    "https://quickbooks.api.intuit.com\\@10.0.0.1/",
    "https://10.0.0.1\\.intuit.com/",
    "https://10.0.0.1#@quickbooks.api.intuit.com/",
    "https://10.0.0.1%23@quickbooks.api.intuit.com/",
    "https://10.0.0.1%00.intuit.com/",
    "https://quickbooks.api.intuit.com%2f@evil.example/",
    "https://①②⑦.⓪.⓪.①/",
    "https://quickbooks。api。intuit。com/",
    "https://quickbooks.api.intuit.com /",
    "https://quickbooks.api.intuit.com\t.evil.example/",
    "https://quickbooks.api.intuit.com/a\r\nHost: evil.example",
    "https://quickbooks.api.intuit.com./",
    "https://-/",
    # numbers that are read as IP addresses
    "https://2130706433/",
    "https://017700000001/",
    "https://0x7f000001/",
    "https://0177.0.0.1/",
    "https://0x7f.0.0.1/",
    "https://10.1/",
    "https://169.254.43518/",
    "https://256.256.256.256/",
    # addresses that are not to be reached
    "https://127.0.0.1/",
    "https://127.8.9.10/",
    "https://0.0.0.0/",
    "https://10.0.0.1/",
    "https://172.16.5.4/",
    "https://192.168.1.1/",
    "https://100.64.0.1/",
    "https://100.100.100.200/latest/meta-data/",
    "https://169.254.169.254/latest/meta-data/",
    "https://168.63.129.16/metadata",
    "https://192.0.0.192/opc/v2",
    "https://224.0.0.1/",
    "https://255.255.255.255/",
    "https://[::1]/",
    "https://[::]/",
    "https://[::ffff:127.0.0.1]/",
    "https://[::ffff:a9fe:a9fe]/",
    "https://[fe80::1]/",
    "https://[fc00::1]/",
    "https://[fd00:ec2::254]/latest/meta-data/",
    "https://[64:ff9b::a9fe:a9fe]/",
    "https://[2002:7f00:0001::]/",
    "https://[::127.0.0.1]/",
    "https://[1::2::3]/",
    "https://localhost/",
    "https://metadata.google.internal/",
    "https://both.example/",
    # without TLS, nowhere but into a listed network
    "http://quickbooks.api.intuit.com/",
    "http://52.10.20.30/",
]


def resolve(host: str, port: int) -> list[str]:
    known = {**PUBLIC, "localhost": ["127.0.0.1"], "metadata.google.internal": ["169.254.169.254"]}
    return known.get(host, [host])


def admit(url: str) -> Place:
    where = place(url)
    AddressBook(resolve).addresses(where.host, where.port, plain=where.scheme == "http")
    return where


@pytest.mark.parametrize("url", HOSTILE)
def test_a_hostile_address_is_refused(url, settings):
    settings.ALLOWED_PRIVATE_NETWORKS = []
    with pytest.raises(AddressRefused):
        admit(url)


@pytest.mark.parametrize(
    "url", [u for u in HOSTILE[:34] if "//" in u] + ["https://2130706433/", "https://[::127.0.0.1]/", "https://127.1/"]
)
def test_disguises_are_refused_also_where_loopback_is_allowed(url, settings):
    settings.ALLOWED_PRIVATE_NETWORKS = ["127.0.0.0/8"]
    with pytest.raises(AddressRefused):
        admit(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://quickbooks.api.intuit.com/v3/company/1/query?query=select%20*%20from%20Customer",
        "https://52.10.20.30:8443/x",
        "https://[2606:4700:4700::1111]/",
        "HTTPS://quickbooks.api.intuit.com/".replace("HTTPS", "https"),
    ],
)
def test_a_public_https_address_is_admitted(url, settings):
    settings.ALLOWED_PRIVATE_NETWORKS = []
    assert admit(url).scheme == "https"


def test_a_listed_network_is_admitted_with_http_and_its_neighbours_are_not(settings):
    settings.ALLOWED_PRIVATE_NETWORKS = ["127.0.0.0/8", "192.168.7.0/24", "fd12::/16"]
    for url in ("http://127.0.0.1:8000/", "https://192.168.7.9/", "http://[fd12::5]/", "http://[::ffff:127.0.0.1]/"):
        admit(url)
    for url in ("http://192.168.8.9/", "https://10.0.0.1/", "https://[fd13::5]/"):
        with pytest.raises(AddressRefused):
            admit(url)


def test_scheme_host_and_port_make_the_place():
    assert place("https://A.example/x") == place("https://a.example:443/y?z") != place("https://a.example:444/x")
    assert place("http://a.example/") != place("https://a.example/")
    assert str(place("https://[2606:4700::1]:8443/x")) == "https://[2606:4700::1]:8443"


def test_a_name_without_an_address_may_come_back():
    with pytest.raises(RetryableError):
        AddressBook(lambda host, port: []).addresses("gone.example", 443, plain=False)


def test_a_zone_does_not_hide_a_link_local_address(settings):
    settings.ALLOWED_PRIVATE_NETWORKS = []
    assert refusal("fe80::1%eth0", plain=False)
