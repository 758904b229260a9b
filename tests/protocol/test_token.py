"""Keys on PKCS#11 tokens, and where keys and their passphrases are found."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from tuf.api.metadata import Metadata, Targets

from outrider_protocol import signing
from outrider_protocol.signing import KeyFileError, PassphraseError, Secrets, TokenError, TokenUri
from tests.protocol.softhsm import PIN, SoftHsm
from tests.protocol.test_signing import EXPIRES

TARGETS = [signing.artifact_target("har/1.0/x86-64", b"m1", 1)]


def test_a_role_is_signed_on_a_token(softhsm: SoftHsm) -> None:
    """PRO-SIG-3: a P-256 key on a token signs a TUF role, which verifies by its public half."""
    signer = signing.open_signer(softhsm.uri("pipeline"), Secrets())
    data = signing.add_targets(None, TARGETS, EXPIRES, [signer])
    metadata = Metadata[Targets].from_bytes(data)
    public = signing.public_from(softhsm.uri("pipeline"), Secrets())
    assert (public.scheme, public.keyid) == ("ecdsa-sha2-nistp256", signer.public_key.keyid)
    public.verify_signature(metadata.signatures[public.keyid], metadata.signed_bytes)


@pytest.mark.parametrize("environ", [{"OUTRIDER_PIN": PIN}, {"OUTRIDER_PIN_FILE": "pin"}])
def test_the_pin_comes_from_elsewhere(softhsm: SoftHsm, environ: dict[str, str]) -> None:
    """PRO-SIG-4: the PIN comes from a file or the environment, or a person is asked; a wrong one is a named error."""
    if "OUTRIDER_PIN_FILE" in environ:
        environ = {"OUTRIDER_PIN_FILE": str(softhsm.directory / "pin")}
    place = softhsm.uri("targets", pin=False)
    asked: list[str] = []

    def ask(question: str) -> bytes:
        asked.append(question)
        return PIN.encode()

    for secrets in (Secrets(environ), Secrets(ask=ask)):
        signing.open_signer(place, secrets).sign(b"payload")
    assert asked == ["PIN for targets on token targets"]
    with pytest.raises(PassphraseError):
        signing.open_signer(place, Secrets())
    with pytest.raises(TokenError):
        signing.open_signer(place, Secrets({"OUTRIDER_PIN": "0000"}))


@pytest.mark.parametrize("wrong", ["token=nobody;object=targets", "token=targets;object=other", "token=targets;id=%07"])
def test_what_is_not_on_the_token(softhsm: SoftHsm, wrong: str) -> None:
    """PRO-SIG-5: a token or key that is not there is a named error."""
    with pytest.raises(TokenError) as caught:
        signing.open_signer(f"pkcs11:{wrong}?module-path={softhsm.module}", Secrets({"OUTRIDER_PIN": PIN}))
    assert caught.value.hint


def test_a_module_that_is_none(softhsm: SoftHsm, tmp_path: Path) -> None:
    """PRO-SIG-5: no library, or a file that is none, is a named error."""
    (tmp_path / "module.so").write_text("no library")
    for module, secrets in ((f"?module-path={tmp_path / 'module.so'}", {}), ("", {}), ("", {"OUTRIDER_PIN": PIN})):
        with pytest.raises(KeyFileError):
            signing.open_signer(f"pkcs11:object=x{module}", Secrets({"OUTRIDER_PIN": PIN, **secrets}))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("pkcs11:object=a", TokenUri(key_label="a")),
        ("pkcs11:token=My%20Token;id=%01%FF", TokenUri(token="My Token", key_id=b"\x01\xff")),
        ("pkcs11:serial=12;object=a;type=private", TokenUri(serial="12", key_label="a")),
        ("pkcs11:object=a?pin-source=/p&module-path=/m.so", TokenUri(key_label="a", pin_file="/p", module="/m.so")),
        ("pkcs11:object=a?pin-source=file:/p", TokenUri(key_label="a", pin_file="/p")),
    ],
)
def test_addresses(text: str, wanted: TokenUri) -> None:
    """PRO-SIG-5: addresses have the form of RFC 7512."""
    assert TokenUri.parse(text) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "pkcs11:",
        "pkcs11:token=x",
        "object=x",
        "pkcs11:object=x;object=y",
        "pkcs11:object=x;slot-id=1",
        "pkcs11:object=x;type=public",
        "pkcs11:object",
        "pkcs11:object=x?pin-value=1234",
    ],
)
def test_addresses_that_are_refused(text: str) -> None:
    """PRO-SIG-5: an address that names no key, or says what is not understood, is refused; so is a PIN in it."""
    with pytest.raises(TokenError):
        TokenUri.parse(text)


def test_without_the_extra(tmp_path: Path) -> None:
    """PRO-SIG-6: signing with files loads no PKCS#11 binding; a token without it is a named error."""
    probe = (
        "import sys; sys.modules['pkcs11'] = None\n"
        "from outrider_protocol import signing\n"
        "signing.save_private(signing.generate(), __import__('pathlib').Path(sys.argv[1]))\n"
        "signing.open_signer(sys.argv[1], signing.Secrets()).sign(b'x')\n"
        "try: signing.open_signer('pkcs11:object=x', signing.Secrets({'OUTRIDER_PIN': '1', "
        "'OUTRIDER_PKCS11_MODULE': '/m.so'}))\n"
        "except signing.TokenError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe, str(tmp_path / "k.pem")], capture_output=True, text=True, check=True
    )
    assert "extra `pkcs11`" in done.stdout


@pytest.mark.parametrize("key", [ed25519.Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP256R1())])
def test_both_kinds_of_keys_in_files(tmp_path: Path, key: signing.PrivateKey) -> None:
    """PRO-SIG-7: Ed25519 and P-256 keys are read from files, private and public; another kind is refused."""
    path = tmp_path / "k.pem"
    signing.save_private(key, path, b"secret")
    path.with_suffix(".pub").write_bytes(signing.public_pem(key))
    signer = signing.open_signer(path, Secrets({"OUTRIDER_PASSPHRASE": "secret"}))
    public = signing.public_from(path.with_suffix(".pub"), Secrets())
    assert public.keyid == signer.public_key.keyid
    public.verify_signature(signer.sign(b"payload"), b"payload")
    signing.save_private(ec.generate_private_key(ec.SECP384R1()), tmp_path / "other.pem")
    with pytest.raises(KeyFileError):
        signing.open_signer(tmp_path / "other.pem", Secrets())
    (tmp_path / "other.pub").write_bytes(signing.public_pem(ec.generate_private_key(ec.SECP384R1())))
    with pytest.raises(KeyFileError):
        signing.public_from(tmp_path / "other.pub", Secrets())


def test_which_passphrase(tmp_path: Path) -> None:
    """PRO-SIG-4: a key's own passphrase comes before the common one, a file before a variable, a person last."""
    (tmp_path / "line").write_text("from file\nrest")
    (tmp_path / "empty").write_text("\n")
    place = tmp_path / "root-1.pem"
    common = {"OUTRIDER_PASSPHRASE": "common"}
    assert Secrets().passphrase(place) is None
    assert Secrets(common).passphrase(place) == b"common"
    assert Secrets({**common, "OUTRIDER_PASSPHRASE_ROOT_1": "own"}).passphrase(place) == b"own"
    assert Secrets({**common, "OUTRIDER_PASSPHRASE_FILE": str(tmp_path / "line")}).passphrase(place) == b"from file"
    assert Secrets(common, ask=lambda _: b"asked").passphrase(place) == b"common"
    assert Secrets(ask=lambda question: hashlib.sha256(question.encode()).digest()).passphrase(place) is not None
    for name in ("empty", "missing"):
        with pytest.raises(PassphraseError):
            Secrets({"OUTRIDER_PASSPHRASE_FILE": str(tmp_path / name)}).passphrase(place)
