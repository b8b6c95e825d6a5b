"""Files of tensors and arrays, which are ZIP archives (``torch.save``, ``np.savez``), with a checksum over all bytes.

The checksum stands in the archive's comment, so that ``torch.load`` and ``np.load`` open the file as it is. They
themselves do not notice all damage: torch looks at no checksum, and numpy at none of an array whose header was made
shorter.
"""

import io
import struct
import zipfile
import zlib
from pathlib import Path

from trainable.files import replacing

_MARK = b"crc32 of all bytes before: "
_DIGITS = 8
_COMMENT = len(_MARK) + _DIGITS
_END = 22  # bytes of the record that ends an archive; the last two are the length of the comment after it
_END_MARK = b"PK\5\6"


def write(path: Path, archive: io.BytesIO) -> None:
    """Writes an archive that has no comment yet, with its checksum; the old file or the new, never half.

    Raises:
        OSError: it cannot be written, for instance because the disk is full; the old file is still there.
    """
    with archive.getbuffer() as content:
        assert _end_record(content[-_END:].tobytes(), 0)
        struct.pack_into("<H", content, len(content) - 2, _COMMENT)
        checksum = zlib.crc32(_MARK, zlib.crc32(content))
        with replacing(path) as file:
            file.write(content)
            file.write(_MARK + f"{checksum:0{_DIGITS}x}".encode())


def read(path: Path) -> bytes:
    """A whole archive whose checksum is right and which unpacks to no more than its own size.

    One without a checksum, as earlier versions wrote it, is taken with the checksums that its members have.

    Raises:
        OSError: it cannot be read.
        ValueError: it is damaged, or its members are compressed, as nothing here writes them.
    """
    content = path.read_bytes()
    sealed = _end_record(content[: -_COMMENT or None], _COMMENT)
    if not sealed and not _end_record(content, 0):
        raise ValueError("it does not end as such a file does")
    if sealed and content[-_DIGITS:] != f"{zlib.crc32(memoryview(content)[:-_DIGITS]):0{_DIGITS}x}".encode():
        raise ValueError("its checksum is wrong")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
            if any(member.compress_type != zipfile.ZIP_STORED for member in members):
                raise ValueError("it is compressed")
            if sum(max(member.file_size, member.compress_size) for member in members) > len(content):
                raise ValueError("it unpacks to more than its own size")
            for member in members:
                if not sealed and member.CRC:  # torch writes 0 where it was told to have none
                    archive.read(member)
    except ValueError:
        raise
    except Exception as error:  # zipfile raises what its parts raise
        raise ValueError(str(error) or type(error).__name__) from error
    return content


def _end_record(content: bytes, length_of_comment: int) -> bool:
    """Whether the record that ends an archive is the last, and says that a comment of this length follows."""
    end = content[-_END:]
    return len(end) == _END and end.startswith(_END_MARK) and end.endswith(struct.pack("<H", length_of_comment))
