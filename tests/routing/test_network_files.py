"""Networks and prefixes from files, with the traps that such files have."""

import io

import pytest
from django.core.management import CommandError, call_command

from routing.models import Network, NetworkPrefix

pytestmark = pytest.mark.django_db
NETWORKS = """mcc,mnc,country_iso2,country,type,brand,operator,status
255,01,UA,Ukraine,National,Vodafone,PRJSC VF UKRAINE,Operational
255,03,UA,Ukraine,National,Kyivstar,PRJSC Kyivstar,Operational
255,06,UA,Ukraine,National,lifecell,LLC lifecell,Operational
255,05,UA,Ukraine,National,Golden,GT,Not operational
505,01,AU/CC/CX,Australia,National,Telstra,Telstra,Operational
289,67,GE-AB,Abkhazia,National,Aquafon,Aquafon,Operational
310,100 - 190,US,United States,National,Many,Many,Operational
214,?,ES,Spain,National,Odd,Odd,Operational
"""


@pytest.fixture
def load(tmp_path):
    def load(*arguments, networks="", prefixes=""):
        arguments = list(arguments)
        for option, text in (("", networks), ("--prefixes", prefixes)):
            if text:
                path = tmp_path / f"file{option}.csv"
                path.write_text(text)
                arguments += [option, str(path)] if option else [str(path)]
        out, err = io.StringIO(), io.StringIO()
        call_command("load_networks", *arguments, stdout=out, stderr=err, no_color=True)
        return out.getvalue() + err.getvalue()

    return load


def test_networks_that_live_are_loaded_and_odd_rows_are_named(load):
    told = load(networks=NETWORKS)

    assert "6 networks" in told
    assert {"line 7: no country code: 'GE-AB'", "line 8: no MCC of three and MNC of two or three digits"} <= set(
        told.splitlines()
    )
    assert set(Network.objects.filter(mcc="505").values_list("country", flat=True)) == {"AU", "CC", "CX"}
    assert Network.objects.get(mcc="255", mnc="03").name == "Kyivstar"


def test_mnc_is_a_text(load):
    load(networks="mcc,mnc,country,name\n310,01,US,a\n310,001,US,b\n")

    assert set(Network.objects.values_list("mnc", flat=True)) == {"01", "001"}


def test_prefixes_replace_those_of_their_source_alone(load):
    load("--source", "regulator", prefixes="prefix,mcc,mnc\n38067,255,03\n+38050,255,01\n")
    NetworkPrefix.objects.create(prefix="48501", mcc="260", mnc="03", source="other")

    told = load("--source", "regulator", prefixes="prefix,mcc,mnc\n38067,255,03\n067,255,03\n38063,255,6\n")

    assert "1 prefixes" in told
    assert "line 3" in told
    assert "line 4" in told
    assert dict(NetworkPrefix.objects.values_list("prefix", "source")) == {"38067": "regulator", "48501": "other"}


def test_prefixes_are_derived_where_a_carrier_name_means_one_network(load):
    load(networks=NETWORKS)
    NetworkPrefix.objects.create(prefix="38068", mcc="255", mnc="99", source="regulator")

    told = load("--derive")

    assert "derived prefixes" in told
    found = {row.prefix: (row.mnc, row.source) for row in NetworkPrefix.objects.all()}
    assert found["38067"] == ("03", "phonenumbers")
    assert found["38068"] == ("99", "regulator")


def test_file_without_its_columns_changes_nothing(load):
    load(networks=NETWORKS)

    with pytest.raises(CommandError, match="there is no column mnc"):
        load(networks="mcc,country\n255,UA\n")
    assert Network.objects.count() == 6
