"""European texts in the Windows encodings are read with their own letters."""

from pathlib import Path

import pytest

from tests.support.ingested import scanned

TEXTS = {
    "Portuguese": ("cp1252", "Não há razão para que a informação não seja útil às pessoas; são três opções."),
    "Portuguese, one word": ("cp1252", "não"),
    "Swedish": ("cp1252", "Han står på vägen och går över ån när båten är här."),
    "Swedish, one word": ("cp1252", "på"),
    "Danish": ("cp1252", "Rødgrød med fløde på en blå ø er også så sød."),
    "French": ("cp1252", "L’été dernier, nous avons mangé à la forêt où l’évêque, très âgé, était déjà."),
    "German": ("cp1252", "Die Straße führt über größere Brücken zu schönen Häusern."),
    "Spanish": ("cp1252", "¿Dónde está el niño? Mañana también habrá más canción."),
    "Italian": ("cp1252", "Perché la città è più bella, ma non può essere così."),
    "Polish": ("cp1250", "Zażółć gęślą jaźń, a później idź do łóżka, bo już śpią."),
    "Czech": ("cp1250", "Příliš žluťoučký kůň úpěl ďábelské ódy, když přišel večer."),
    "Hungarian": ("cp1250", "Az idő múlik, a nők és a fiúk erős tűznél ülnek, őszi hűvös estén."),
    "Romanian": ("cp1250", "Fetiţa aşteaptă în faţa casei şi vede că plouă."),
    "Turkish": ("cp1254", "Öğrenciler yağmurlu günde sınıfta kalıp ağaçları çiziyor, şarkı söylüyor."),
    "Lithuanian": ("cp1257", "Žąsys skrenda į šiltą kraštą, o žmonės lieka čia ir laukia žiemos."),
    "Russian": ("cp1251", "Съешь ещё этих мягких французских булок, да выпей чаю. Это было вчера вечером."),
}


@pytest.mark.parametrize("language", TEXTS)
def test_a_text_is_read_with_the_letters_of_its_language(tmp_path: Path, language: str) -> None:
    encoding, text = TEXTS[language]
    content = "\n".join(["text,label", *(f'"{text}",{"ab"[n % 2]}' for n in range(12))])
    scan = scanned(tmp_path, content.encode(encoding))
    assert scan.columns[0].examples[0] == text
