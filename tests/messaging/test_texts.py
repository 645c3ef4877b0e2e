import pytest

from messaging import texts
from messaging.errors import InvalidRequest
from messaging.models import Template
from tests.factories import ClientFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def shipped(tmp_path, settings):
    """Texts as if they came with the code."""
    settings.BASE_DIR = tmp_path
    texts.shipped.cache_clear()

    def write(name, locale, text):
        directory = tmp_path / "templates" / "messages" / name
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f"{locale}.txt").write_text(text + "\n")

    yield write
    texts.shipped.cache_clear()


def render(name="greeting", client="core", locale="en", **params):
    return texts.render(client=client, name=name, locale=locale, params=params)


def errors_of(**request):
    with pytest.raises(InvalidRequest) as caught:
        render(**request)
    return [(error.field, error.code) for error in caught.value.errors]


def test_parameters_are_filled_in(shipped):
    shipped("greeting", "en", "Hello {name}, {name}: {amount}")

    assert (
        texts.render(client="core", name="greeting", locale="", params={"name": "Olha", "amount": "5 EUR"})
        == "Hello Olha, Olha: 5 EUR"
    )


def test_a_value_is_never_read_as_a_template(shipped):
    shipped("greeting", "en", "{a} {b}")

    assert render(a="{b}", b=r"\1 {a.__class__} %s") == r"{b} \1 {a.__class__} %s"


def test_other_braces_stay_as_they_are(shipped):
    shipped("greeting", "en", "{} {0} {Name} {a.b} {{a}}")

    assert render(a="x") == "{} {0} {Name} {a.b} {x}"


def test_the_clients_own_text_wins_over_everybodys_and_both_over_the_shipped(shipped):
    client = ClientFactory(slug="core")
    shipped("greeting", "en", "shipped")

    first = render()
    Template.objects.create(client=None, name="greeting", locale="en", text="everybody's")
    texts.edited.forget()
    second = render()
    Template.objects.create(client=client, name="greeting", locale="en", text="own")
    texts.edited.forget()
    third, another = render(), render(client="other")

    assert (first, second, third, another) == ("shipped", "everybody's", "own", "everybody's")


@pytest.mark.parametrize(
    ("locale", "text"),
    [("pt-BR", "brazil"), ("pt_br", "brazil"), ("PT-br", "brazil"), ("pt-PT", "portugal"), ("uk", "hi"), ("", "hi")],
)
def test_a_locale_falls_back_to_its_language_and_then_to_english(shipped, locale, text):
    shipped("greeting", "en", "hi")
    shipped("greeting", "pt", "portugal")
    Template.objects.create(name="greeting", locale="pt_BR", text="brazil")

    assert render(locale=locale) == text


def test_an_edited_text_is_used_at_the_next_look(shipped, settings):
    settings.SNAPSHOT_MAX_AGE = 0
    shipped("greeting", "en", "before")
    before = render()

    Template.objects.create(name="greeting", locale="en", text="after")

    assert (before, render()) == ("before", "after")


def test_an_unknown_template():
    assert errors_of(name="nothing") == [("template", "unknown_template")]


def test_missing_and_unknown_parameters_are_all_told(shipped):
    shipped("greeting", "en", "{a} {b}")

    assert errors_of(b="1", c="2") == [("params.a", "missing_parameter"), ("params.c", "unknown_parameter")]
