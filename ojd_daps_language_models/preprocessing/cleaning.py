"""Job adverts as they come (HTML, mojibake, lost line breaks) made into plain text.

What comes out has single blanks, one line per list item (`- Python`), and at most one
blank line between paragraphs.
"""

import html
import re
from html.entities import html5
from itertools import pairwise

from ftfy import fix_encoding

_LOWER, _UPPER = "a-zß-öø-ÿ", "A-ZÀ-ÖØ-Þ"

# --- Markup ---------------------------------------------------------------------------

# Only these are tags: placeholders such as <ORGANIZATION>, and `x <y`, are text.
_PARAGRAPHS = """
    address article aside blockquote body fieldset footer form h1 h2 h3 h4 h5 h6
    header dl hr html main nav ol p pre section table title ul"""
_LINES = """
    br caption center dd details div dt figcaption figure head legend li option
    select summary tbody tfoot thead tr"""
_CELLS = "audio button iframe img input label object td textarea th video"
_INLINE = """
    a abbr acronym area b base basefont bdi bdo big canvas cite code col colgroup
    data datalist del dfn em embed font i ins kbd link map mark meta noscript o:p
    output param picture q s samp script small source span strike strong style sub
    sup svg template time track tt u var wbr"""
_BREAKS = {
    **dict.fromkeys(_PARAGRAPHS.split(), "\n\n"),
    **dict.fromkeys(_LINES.split(), "\n"),
    **dict.fromkeys(_CELLS.split(), " "),
    **dict.fromkeys(_INLINE.split(), ""),
}
_NAMES = "|".join(sorted(_BREAKS, key=len, reverse=True))
# No part of a tag runs past the next "<", so that each character is read only a few
# times; attributes with an odd quote fall to the second form.
_TAG = re.compile(
    rf"""<(?!(?-i:ADDRESS|DATA|TIME|TITLE)>)(/?)({_NAMES})(?![\w:-])
    (?: (?:[^<>"']++ | "[^"<]*+" | '[^'<]*+')*+ > | [^<>]*+ > )
    | <(?:!doctype|\?xml)[^<>]*+>""",
    re.IGNORECASE | re.VERBOSE,
)
# What browsers do not show: from where it opens to where it closes.
_HIDDEN = [
    (re.compile(rf"{opening}.*?{closing}", re.I | re.S), re.compile(closing, re.I))
    for opening, closing in (
        ("<!--", "-->"),
        (r"<script\b", r"</script\s*>"),
        (r"<style\b", r"</style\s*>"),
    )
]
_BLOCK_END = re.compile(r"</(?:p|li|div)\s*>", re.IGNORECASE)
_WRAPPED = re.compile(rf"(?<=[{_LOWER},])[ \t]*\r?\n[ \t]*(?=[{_LOWER}])")
_ENTITY = re.compile(r"&(?:#(?:\d{1,7}|[xX][\da-fA-F]{1,6});|[A-Za-z]\w{1,31};|nbsp)")

# --- Characters -----------------------------------------------------------------------

# Mojibake is several bytes of one character, each shown on its own, or one of them
# followed by a blank that was a no-break space.
_MAYBE_MOJIBAKE = re.compile(
    r"[^\x00-\x7f](?:[^\x00-\x7f]|(?<=[ÂÃ]) |(?<=[\x80-\x9f]))"
)
_LINE_BREAK = re.compile(r"[\r\x0b\x0c\x85\u2028\u2029]\n?")
ODD_BLANK = re.compile(r"[\t\xa0\u1680\u2000-\u200a\u202f\u205f\u3000]")
_INVISIBLE = re.compile(
    r"[\x00-\x08\x0e-\x1f\x7f-\x9f\xad\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f"
    r"\ufeff\ufff9-\ufffc\ud800-\udfff]"
)
_BLANKS = re.compile(" {2,}")
_BLANK_LINES = re.compile("\n{3,}")

# --- Bullets --------------------------------------------------------------------------

_DASHES = r"\-\u2013\u2014"
# \u2043 is the hyphen bullet; \uf... are Wingdings, as word processors leave them.
BULLETS = (
    "•●○◦▪▫■□◆◇❖▶►▸▷‣∙◘◉➢➤➔➡✓✔✅☑✦✧✱\u2043\uf06e\uf076\uf0a7\uf0a8\uf0b7\uf0d8\uf0fc"
)
_RULE = re.compile(rf"^[{_DASHES}_=*~·+# ]{{3,}}$", re.MULTILINE)
_BULLET_AT_START = re.compile(
    rf"^ ?(?:(?:[{BULLETS}]|[{_DASHES}](?=[^\W\d_])|\*(?=[^\W\d_][^*\n]*$)"
    rf"|[{_DASHES}*+·»\u203a→o§Øü](?=[ \n]))[ ]*)+",
    re.MULTILINE,
)
_BULLET_WITHIN = re.compile(rf"[{BULLETS}][{BULLETS} ]*")
# "skills.- Works", "Role:* As", "areas* Works": list items that lost their line.
_BULLET_GLUED = re.compile(
    rf"[-*](?:(?<=[.!?…:;][-*]) ?|(?<=[{_LOWER}.) ]\*) )(?=[{_UPPER}][{_LOWER}])"
)
_DASH_GLUED = re.compile(rf"-(?<=[{_LOWER})]-) (?=[{_UPPER}])")  # "Sales- Market"
_BULLET_ALONE = re.compile(r"^- ?\n[\n ]*(?=\S)", re.MULTILINE)
_BULLET_LAST = re.compile(r"^- ?\Z", re.MULTILINE)
_LOOSE_LIST = re.compile(r"^(- .*)\n{2,}(?=- )", re.MULTILINE)

# --- Sentences that lost the blank between them ---------------------------------------

_BIG_CAMELS = """
    ActionScript AdWords AngularJS AutoCAD BigQuery BitBucket CentOS CloudFormation
    CoffeeScript DataFrame DevOps DevSecOps DocuSign DynamoDB EdTech ElasticSearch
    FaceTime FinTech GitHub GitLab GraphQL HipChat HubSpot IaaS InDesign JavaScript
    JetBrains LaTeX LinkedIn MLOps MailChimp McDonald MongoDB MySQL NetSuite NoSQL
    NodeJS NumPy OneDrive OneNote OpenCV OpenSUSE OpenShift OpenStack PaaS PayPal
    PhD PostScript PostgreSQL PowerBI PowerPoint PowerShell PyCharm PyTorch
    QuickBooks RabbitMQ ReactJS SaaS ServiceNow SharePoint SolidWorks TeamViewer
    TensorFlow TikTok TypeScript VBScript VMware VueJS WhatsApp WordPress YouTube
    ZenDesk"""
_SMALL_CAMELS = """
    angularJS devOps dotNet eBay eCommerce eLearning iCloud iOS iPad iPhone iPhones
    jQuery javaScript macOS mongoDB nodeJS nopCommerce openCV openSUSE openShift
    openStack pfSense phpMyAdmin postgreSQL reactJS tvOS vSphere vueJS watchOS
    webMethods webOS winForms"""
_SMALL_NAMES = frozenset(_SMALL_CAMELS.split())
_CAMEL_NAMES = _SMALL_NAMES.union(_BIG_CAMELS.split())
# Words that head a part of an advert, and hardly ever stand in a name.
_HEADING_WORDS = """
    Benefits Description Duties Experience Overview Position Qualifications
    Requirements Responsibilities Role Salary Skills Summary"""
# Words that begin a sentence or list item of an advert, and hardly ever end a name.
_OPENING_WORDS = """
    A Ability Able Additional An Applicants Are As Assist Bachelor Candidate
    Candidates Comfortable Competitive Create Demonstrate Demonstrated Design
    Desirable Desire Desired Develop Ensure Excellent Expert Expertise Extensive
    Familiar Familiarity Fluency Fluent Full Have Hiring How If Interested Knowledge
    Location Maintain Maintaining Manage Minimum Must My Our Perform Performs Please
    Possess Preferred Previous Prior Proficiency Proficient Proven Provide Relevant
    Reporting Required Requires Research Responsible Should Since Skilled Solid
    Strong Successful Thank That The Their These They This Those To Understanding
    Use Using Want We What When Where Who Why Will Willing Willingness With Working
    Would You Your"""
_SMALL_WORDS = "am an as at be by do go he if in is it me my no of on or so to up us we"
_HEADINGS = frozenset(_HEADING_WORDS.split())
_OPENERS = _HEADINGS.union(_OPENING_WORDS.split())
_MAY_PRECEDE_OPENER = frozenset(_SMALL_WORDS.split())
# Long nouns of this kind end a heading or a list item; few names hold one.
_NOUN = re.compile(r"[A-Z][a-z]{5,}(?:ment|tion|sion|ness|ance|ence|ship|ity|ities)s?$")
_HUMP = re.compile(
    rf"[{_UPPER}](?:(?<=[{_LOWER}][{_UPPER}])|(?<=[{_UPPER}]{{2}})(?=[{_LOWER}]))"
)
_LETTERS = re.compile(r"[^\W\d_]*")
_SMALL_NAME = rf"(?:{'|'.join(_SMALL_CAMELS.split())})(?![{_LOWER}])"
_PART = re.compile(
    rf"{_SMALL_NAME}|(?:{'|'.join(_BIG_CAMELS.split())})(?![{_LOWER}])"
    rf"|[{_UPPER}]+(?![{_LOWER}])"
    rf"|[{_UPPER}]?[{_LOWER}]+?(?={_SMALL_NAME}|[{_UPPER}]|$)"
    r"|[^\W\d_]"
)
_STOP = re.compile(rf"[.!?…:;,)\]”»]+(?:(?=[{_UPPER}])|(?<=[{_LOWER}][.!?])(?=[0-9]))")
# "Asp.Net", "socket.IO", "Booking.Com", "Ph.D", "(UK)Ltd"
_NOT_A_START = re.compile(
    r"(?:D|Ai|AI|Co|CO|Com|COM|Inc|Io|IO|Js|JS|Limited|Llc|Ltd|Net|NET|Org|ORG|Plc|Uk|UK)"
    r"\b"
)
_WORD = re.compile(r"\w+")
_AFTER_YEAR = re.compile(
    rf"[0-9]{{4}}(?=[{_UPPER}][{_LOWER}]{{2}})(?![KMGT]b|Base)"  # not "1000Mbit"
)
_ADDRESS = re.compile(r"((?<!\S)[^\s@]*@\S*|(?:https?://|www\.)\S*)", re.IGNORECASE)

_MAX_PASSES = 10


def clean_text(text: str) -> str:
    """Make an advert plain text; cleaning it again changes nothing.

    Tags become line breaks, bullets or nothing, entities their characters, mojibake
    what it was. Words and sentences glued together (`skillsBe`, `year.We`) are parted;
    names such as JavaScript or Node.js, e-mail and web addresses are not.
    """
    passes = 0
    while (cleaned := _clean_once(text)) != text:
        passes += 1
        # Markup nested deeper than this is no advert's: it ends here.
        text = cleaned if passes < _MAX_PASSES else re.sub("[<>&]", " ", cleaned)
    return cleaned


def _clean_once(text: str) -> str:
    if "<" in text:
        text = _strip_tags(text)
    if "&" in text:
        text = _ENTITY.sub(_decode_entity, text)
    text = _LINE_BREAK.sub("\n", text)
    if not text.isascii():
        text = _repair_mojibake(text)
        text = _LINE_BREAK.sub("\n", text)
    text = ODD_BLANK.sub(" ", text)
    text = _INVISIBLE.sub("", text)
    text = _mark_bullets(_tidy_blanks(text))
    return _tidy_blanks(_part_glued(text))


def _strip_tags(text: str) -> str:
    for hidden, closing in _HIDDEN:
        # Nothing opened after the last closing can match: searching there, from each
        # opening to the end, would take quadratic time.
        end = max((match.end() for match in closing.finditer(text)), default=0)
        text = hidden.sub(" ", text[:end]) + text[end:]
    if _BLOCK_END.search(text):
        text = _WRAPPED.sub(" ", text)  # lines of the source, not of the page
    return _TAG.sub(_replace_tag, text)


def _replace_tag(match: re.Match) -> str:
    closing, name = match[1], (match[2] or "").lower()
    return "\n- " if name == "li" and not closing else _BREAKS.get(name, "")


def _decode_entity(match: re.Match) -> str:
    name = match[0][1:]
    if name == "nbsp":
        return " "
    return html.unescape(match[0]) if name[0] == "#" else html5.get(name, match[0])


def _repair_mojibake(text: str) -> str:
    if not _MAYBE_MOJIBAKE.search(text):
        return text
    return "\n".join(
        fix_encoding(line) if _MAYBE_MOJIBAKE.search(line) else line
        for line in text.split("\n")
    )


def _tidy_blanks(text: str) -> str:
    if "  " in text:
        text = _BLANKS.sub(" ", text)
    text = text.replace(" \n", "\n").replace("\n ", "\n")
    if "\n\n\n" in text:
        text = _BLANK_LINES.sub("\n\n", text)
    return text.strip()


def _mark_bullets(text: str) -> str:
    text = _RULE.sub("", text)
    text = _BULLET_AT_START.sub("- ", text)
    text = _BULLET_WITHIN.sub("\n- ", text)
    text = _BULLET_GLUED.sub("\n- ", text)
    if len(_DASH_GLUED.findall(text)) > 2:  # fewer may be "Mon- Fri"
        text = _DASH_GLUED.sub("\n- ", text)
    text = _BULLET_LAST.sub("", _BULLET_ALONE.sub("- ", text))
    return _LOOSE_LIST.sub(r"\1\n", text)


def _part_glued(text: str) -> str:
    if not ("@" in text or "://" in text or "www." in text.lower()):
        return _part_glued_prose(text)
    parts = _ADDRESS.split(text)
    parts[::2] = map(_part_glued_prose, parts[::2])  # between them stand the addresses
    return "".join(parts)


def _part_glued_prose(text: str) -> str:
    text = _STOP.sub(_part_sentences, text)
    text = _AFTER_YEAR.sub(r"\g<0>\n", text)
    pieces, end = [], 0
    for hump in _HUMP.finditer(text):
        if hump.start() < end:
            continue  # another hump of the word before
        start = hump.start()
        while start > end and text[start - 1].isalpha():
            start -= 1
        pieces.append(text[end:start])
        end = _LETTERS.match(text, start).end()
        pieces.append(_part_words(text[start:end], before=text[start - 1 : start]))
    return "".join(pieces) + text[end:]


def _part_sentences(match: re.Match) -> str:
    """Add what is missing after a full stop, comma, bracket and the like."""
    stop, text, start, end = match[0], match.string, match.start(), match.end()
    if _NOT_A_START.match(text, end):
        return stop
    before, starts_number = text[max(start - 4, 0) : start], text[end].isdigit()
    opens = not starts_number and _WORD.match(text, end)[0] in _OPENERS
    if stop[-1] in ")]”»":
        return stop + "\n" if opens or text[end + 1 : end + 2].islower() else stop
    if starts_number:
        glued = len(before) == 4 and before.isalpha() and before.islower()
    elif opens:
        glued = before[-1:].isalnum() or before[-1:] in ("'", '"', "%")
    else:  # "year.New", "ASAP.New", "a,New"; not "e.g.Java", "U.S.Army", "SA,NSW"
        glued = len(before) > 1 and before[-2:].isalnum()
        glued = glued and (stop[0] in ".!?…" or before[-1].islower())
    return stop + " " if glued else stop


def _part_words(word: str, before: str) -> str:
    """Part a camel-case word, such as `skillsBe`, where its humps are glued."""
    if before and before in "#@_0123456789":
        return word
    parts = _PART.findall(word)
    a_list = sum(len(part) > 3 and part[1:].islower() for part in parts) > 3
    parted = parts[0]
    for i, (left, right) in enumerate(pairwise(parts)):
        possessive = i == 0 and left == "s" and before in ("'", "\u2019")
        glued = a_list or possessive or _are_glued(left, right)
        parted += "\n" + right if glued else right
    return parted


def _are_glued(left: str, right: str) -> bool:
    """Whether two humps of a camel-case word belong to two sentences or list items."""
    if left in _CAMEL_NAMES or right in _SMALL_NAMES:
        return len(right) > 1
    if left.islower():
        return len(left) > 2 or (left in _MAY_PRECEDE_OPENER and right in _OPENERS)
    long_enough = len(left) > 2 or (left.isupper() and len(left) > 1 and len(right) > 2)
    return (
        left in _HEADINGS
        or (right in _OPENERS and long_enough)
        or (left == right and len(left) > 3)
        or (_NOUN.match(left) is not None and len(right) > 3)
    )
