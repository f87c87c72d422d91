"""Flickr30k's photographs in Karpathy's test split, with five captions each, for retrieval.  H W
pixels.

The photographs come from the authors at Illinois, on request, or from the hub (nlphuji/flickr30k);
``dataset_flickr30k.json`` is in Karpathy's ``caption_datasets.zip``.  Non-commercial research;
image rights stay with the Flickr users.

``flickr30k-images/<number>.jpg``.  The 1,014 photographs of ``val`` are those that the code of
FLAIR and COSMOS scores.

Source: the counts are those of LAION-AI/CLIP_benchmark @ 48de38c, benchmark/benchmark.csv, whose
recalls are multiples of 1 / 1,000 and 1 / 5,000, and the images of ExplainableML/flair @ 0f9ce05,
datasets/flickr30k-images/flickr30k_val.json.
"""

from gestalt.data_modules.labels.captioned_photographs import captioned_opener, read_karpathy

open_here = captioned_opener(
    "flickr30k_karpathy",
    place="flickr30k",
    images="flickr30k-images",
    table="dataset_flickr30k.json",
    get="unpack Flickr30k and caption_datasets.zip there",
    read=read_karpathy,
    official={"test": 1_000, "val": 1_014},
)
