"""The tokenizer that is published with a model."""

from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerFast

from ojd_daps_language_models.preprocessing.packing import load_tokenizer

# What adverts are full of and tokenizers differ in: capitals, accents, punctuation,
# line breaks. Not ½ or ™: what becomes of these is no reason to refuse a checkpoint.
PROBES = ("Senior Data Engineer", "a café's team", "£30k - C#, 24/7", "• Cook\nClean")


def load_published_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """The tokenizer of a checkpoint folder as transformers makes it.

    Texts are tokenized by `tokenizer.json` itself. Of some classes, BERT's among them,
    transformers takes only the tokens from it, and all else from their settings.

    Raises:
        ValueError: the two do not read texts alike.
    """
    tokenizer, own = AutoTokenizer.from_pretrained(folder), load_tokenizer(folder)
    for text in PROBES:
        published = tokenizer.convert_ids_to_tokens(tokenizer(text)["input_ids"])
        if published != (trained := own.encode(text).tokens):
            raise ValueError(
                f"{folder}: tokenizer_config.json makes another tokenizer than "
                f"tokenizer.json, by which models are trained: {published}, not "
                f"{trained}; expected settings that fit, such as do_lower_case"
            )
    return tokenizer
