"""Small price lists in the forms that providers use. Operators and prices are invented."""

import io
import json

import openpyxl


def excel(*rows, sheet="Prices"):
    book = openpyxl.Workbook()
    page = book.active
    page.title = sheet
    for row in rows:
        page.append(row)
    found = io.BytesIO()
    book.save(found)
    return found.getvalue()


def document(value):
    return json.dumps(value).encode()


# Windows-1251, semicolons, a title and a date above the header, cents with a comma, lists of MNCs, a star, no price.
SUPPLIER = """\
Прайс-лист;;;;;;
Дата;15.12.2030;;;;;
Zone;Country;Operator;MCC;MNC;Price (EUR cent);Note
East;Ukraine;ТОВ "Перший";255;01,04;4,20;
East;Ukraine;Other;255;*;6,75;up
Centre;Poland;One;260;01;3,15;
West;Portugal;Two;268;06;n/a;closed
""".replace("\n", "\r\n").encode("cp1251")

BAD = b"""\
MCC,MNC,MWX,RATE
260,01,26001,0.0310
260,01,26001,0.0410
260,2,2602,0.0300
26O,06,26O06,0.0300
260,06,26099,0.0300
260,07,26007,-0.02
260,08,26008,
260,09,26009,"2,345.67"
260,10,26010,31
=2+2,01,x,0.05
260,11,26011,0.03,0.04
"""

SHAPES = {
    "by_operator.csv": (
        "\ufeffISO,Country,Description,Price / msg\r\n"
        'PL,POLAND,"POLAND Outbound SMS - One, Two",0.0310\r\n'
        "PL,POLAND,POLAND Outbound SMS - Other,0.0340\r\n"
        "PL,POLAND,POLAND Inbound SMS - Local,0.0020\r\n"
        "CI,CÔTE D'IVOIRE,CÔTE D'IVOIRE Outbound SMS - Other,0.2\r\n"
        "XK,KOSOVO,KOSOVO Outbound MMS - Other,0.9\r\n"
    ).encode(),
    "effective.csv": (
        b"MCCMNC,PriceSubmit,PriceDelivered,Currency,Effective,Cease\n"
        b"26801,0.0,0.021,GBP,2026-02-01T00:00:00+00:00,\n"
        b"26801,0.0,0.023,GBP,2060-02-01T00:00:00+00:00,\n"
        b"268,0.0,0.030,GBP,2026-02-01T00:00:00+00:00,2061-01-01T00:00:00+00:00\n"
        b"310410,0.005,0.0,USD,2026-02-01T00:00:00+00:00,\n"
    ),
    "codes.csv": b"MCC,MNC,MWX,RATE\n260,01,26001,0.031\n302,720,302720,0.009\n621,0,6210,0.11\n260,,260,0.035\n",
    "supplier.csv": SUPPLIER,
    "utf16.csv": "Country\tMCC\tMNC\tPrice USD\nPoland\t260\t01\t0.031\nFrance\t208\t*\t0.05\n".encode("utf-16"),
    "latin.csv": "pays;iso2;price EUR\nCôte d’Ivoire;CI;0,2\nFrance;FR;0,05\n".replace("’", "'").encode("latin-1"),
    "prefixes.csv": (
        b"Country Code;Area Code;Destination;Rate;Currency;Effective Date;Change\n"
        b"48;;Poland;0.0340;USD;2026-03-01;N\n48;50;Poland One;0.0310;USD;2026-03-01;D\n"
        b"7;7;Kazakhstan;0.031;USD;2026-03-01;N\n1;;North America;0.008;USD;2026-03-01;I\n"
    ),
    "bad.csv": BAD,
    "sheet.xlsx": excel(
        ["Rates of", "a provider"],
        ["Country", "MCC", "MNC", "Price, EUR"],
        ["Poland", 260, "01", 0.031],
        ["Poland", 260, "*", 0.1 + 0.2],
        ["France", 208, "10", "=B3*2"],
    ),
    "twilio.json": document(
        {
            "country": "Poland",
            "iso_country": "PL",
            "price_unit": "USD",
            "outbound_sms_prices": [
                {
                    "carrier": "One",
                    "mcc": "260",
                    "mnc": "01",
                    "prices": [
                        {"number_type": "mobile", "base_price": "0.04", "current_price": "0.031"},
                        {"number_type": "shortcode", "base_price": "0.04", "current_price": "0.033"},
                    ],
                },
                {
                    "carrier": "Other",
                    "mcc": "260",
                    "mnc": "",
                    "prices": [{"number_type": "mobile", "base_price": "0.04", "current_price": "0.036"}],
                },
            ],
            "inbound_sms_prices": [{"number_type": "mobile", "base_price": "0.01", "current_price": "0.01"}],
        }
    ),
    "vonage.json": document(
        {
            "countryCode": "PL",
            "currency": "EUR",
            "defaultPrice": "0.03500000",
            "networks": [
                {"type": "mobile", "price": "0.03100000", "currency": "EUR", "aliases": ["26002"], "mcc": "260",
                 "mnc": "01", "networkCode": "26001"},
                {"type": "landline", "price": "0.00", "currency": "EUR", "networkCode": "PL-FIXED"},
            ],
        }
    ),
    "plivo.json": document(
        {
            "country_iso": "PL",
            "message": {
                "inbound": {"rate": None},
                "outbound": {"rate": "0.0360"},
                "outbound_networks_list": [
                    {"group_name": "One", "rate": "0.0310"},
                    {"group_name": "Two", "rate": None},
                ],
            },
        }
    ),
    "aws.json": document(
        {
            "SMS": {
                "countryPrices": {
                    "PL": {
                        kind: [{"mcc": "260", "mnc": "01", "carrierFee": 0.001, "domesticPrice": price}]
                        for kind, price in (("transactional", 0.03), ("promotional", 0.05))
                    }
                }
            }
        }
    ),
    "routes.json": document(
        {"version": "1", "routes": [{"country": "Poland", "iso2": "PL", "price_usd": 0.034, "carriers": ["One"]}]}
    ),
}  # fmt: skip

#: How many prices each of them gives.
PRICES = {
    "by_operator.csv": 2,
    "effective.csv": 4,
    "codes.csv": 4,
    "supplier.csv": 4,
    "utf16.csv": 2,
    "latin.csv": 2,
    "prefixes.csv": 4,
    "bad.csv": 1,
    "sheet.xlsx": 2,
    "twilio.json": 2,
    "vonage.json": 3,
    "plivo.json": 1,
    "aws.json": 1,
    "routes.json": 1,
}
