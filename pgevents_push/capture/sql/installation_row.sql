-- Made once; installers take turns, so nobody is between the question and the answer.
INSERT INTO pgevents.installation (id)
SELECT pg_catalog.gen_random_uuid() WHERE NOT EXISTS (SELECT FROM pgevents.installation)
