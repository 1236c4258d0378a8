"""Region proposal networks (Ren et al., 2015): proposals from the conv maps that the head also reads."""
