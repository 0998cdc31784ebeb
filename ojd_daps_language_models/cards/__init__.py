"""What a run shows: live curves while it trains, and a report of what came out.

No advert is ever quoted: counts, scores, and sentences written for the purpose.
"""
